// A server or a client on vsock: its sockets are made by C, all else by Go.
package main

/*
#include <sys/socket.h>
#include <linux/vm_sockets.h>
#include <unistd.h>

static int at(int is_server, unsigned cid, unsigned port)
{
    struct sockaddr_vm a = {.svm_family = AF_VSOCK, .svm_cid = cid, .svm_port = port};
    int fd = socket(AF_VSOCK, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (is_server) {
        if (bind(fd, (struct sockaddr *)&a, sizeof a) || listen(fd, 8))
            return -1;
        return fd;
    }
    return connect(fd, (struct sockaddr *)&a, sizeof a) ? -1 : fd;
}

static int accepted(int fd, unsigned *cid)
{
    struct sockaddr_vm a;
    socklen_t len = sizeof a;
    int got = accept(fd, (struct sockaddr *)&a, &len);
    *cid = a.svm_cid;
    return got;
}
*/
import "C"

import (
	"bufio"
	"fmt"
	"os"
)

func main() {
	if len(os.Args) > 1 {
		fd, err := C.at(0, 3, 5000)
		if fd < 0 {
			fmt.Println("connect:", err)
			os.Exit(1)
		}
		peer := os.NewFile(uintptr(fd), "vsock")
		fmt.Fprintln(peer, "hello")
		line, _ := bufio.NewReader(peer).ReadString('\n')
		fmt.Print("the server says ", line)
		return
	}
	fd, err := C.at(1, C.VMADDR_CID_ANY, 5000)
	if fd < 0 {
		fmt.Println("bind:", err)
		os.Exit(1)
	}
	os.WriteFile("ready", nil, 0o600)
	var cid C.uint
	got, err := C.accepted(fd, &cid)
	if got < 0 {
		fmt.Println("accept:", err)
		os.Exit(1)
	}
	peer := os.NewFile(uintptr(got), "vsock")
	line, _ := bufio.NewReader(peer).ReadString('\n')
	fmt.Fprintln(peer, "you are", cid, "and said", line)
}
