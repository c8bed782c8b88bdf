// vsock listener: what a service on a virtual machine's host looks like. It
// binds the host's context id, port 9999, and echoes to one client at a time.
//: driven
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <linux/vm_sockets.h>

int main(void)
{
    int listener = socket(AF_VSOCK, SOCK_STREAM, 0);
    if (listener < 0) {
        perror("socket");
        return 1;
    }

    struct sockaddr_vm address;
    memset(&address, 0, sizeof address);
    address.svm_family = AF_VSOCK;
    address.svm_cid = VMADDR_CID_HOST;
    address.svm_port = 9999;
    if (bind(listener, (struct sockaddr *)&address, sizeof address) < 0) {
        perror("bind");
        return 1;
    }
    if (listen(listener, 8) < 0) {
        perror("listen");
        return 1;
    }
    printf("listening on vsock port 9999\n");
    fflush(stdout);

    for (;;) {
        struct sockaddr_vm peer;
        socklen_t length = sizeof peer;
        int client = accept(listener, (struct sockaddr *)&peer, &length);
        if (client < 0) {
            perror("accept");
            return 1;
        }

        char buffer[4096];
        ssize_t n;
        while ((n = read(client, buffer, sizeof buffer)) > 0) {
            if (write(client, buffer, (size_t)n) != n) {
                perror("write");
                break;
            }
        }
        close(client);
    }
}
