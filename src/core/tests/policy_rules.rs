//! What single rules match.

mod common;
use common::run;

#[test]
fn the_first_match_wins_and_the_default_comes_last() {
    run("default deny
         allow bind tcp loopback:1024-65535
         deny bind udp *:53 with EADDRINUSE
         move bind tcp *:80 to loopback:8080
         deny socket packet
         #? bind tcp 127.0.0.1:2000 => allow rule 1
         #? bind tcp [::1]:2000 => allow rule 1
         #? bind tcp 0.0.0.0:2000 => deny EACCES default
         #? bind udp 10.0.0.1:53 => deny EADDRINUSE rule 2
         #? bind tcp 0.0.0.0:80 => move 127.0.0.1:8080 rule 3
         #? bind tcp [::]:80 => move [::]:8080 on lo
         #? bind tcp [::ffff:1.2.3.4]:80 => move [::ffff:127.0.0.1]:8080
         #? socket packet => deny EACCES rule 4
         #? socket tcp => allow default
         #? connect tcp 1.2.3.4:1 => allow default");
}

#[test]
fn the_wildcard_receives_for_all() {
    run("deny bind tcp 10.0.0.5:80
         deny bind udp [2001:db8::/32]:53
         #? bind tcp 10.0.0.5:80 => deny EACCES
         #? bind tcp 10.0.0.6:80 => allow
         #? bind tcp 0.0.0.0:80 => deny EACCES
         #? bind tcp [::]:80 => deny EACCES
         #? bind tcp [::]:80 v6only => allow
         #? bind tcp [::ffff:10.0.0.5]:80 => deny EACCES
         #? bind tcp [::ffff:0.0.0.0]:80 => deny EACCES
         #? bind tcp 10.0.0.5:81 => allow
         #? bind tcp 10.0.0.5:0 => allow
         #? bind udp [2001:db8:1::2]:53 => deny EACCES
         #? bind udp [::]:53 v6only => deny EACCES
         #? bind udp [::]:53 => deny EACCES
         #? bind udp 0.0.0.0:53 => allow
         #? bind udp [::1]:53 => allow");
}

#[test]
fn times_and_notes() {
    run("note bind any *:auto
         deny bind tcp *:8080 with EADDRINUSE times 2
         allow bind tcp *:*
         #? bind tcp 0.0.0.0:8080 => deny EADDRINUSE rule 2
         #? bind tcp 0.0.0.0:8080 => deny EADDRINUSE rule 2
         #? bind tcp 0.0.0.0:8080 => allow rule 3
         #? bind tcp 0.0.0.0:0 => allow rule 3 note 1
         #? bind udp 0.0.0.0:0 => allow default note 1
         #? bind udp 0.0.0.0:1 => allow default note none");
}

#[test]
fn unix_and_vsock() {
    run("default deny
         allow bind unix /run/app/**
         move bind vsock *:5000 to unix:/run/app-%p.sock
         #? bind unix /run/app/x.sock => allow rule 1
         #? bind unix /run//app/./x.sock => allow rule 1
         #? bind unix /run/app => deny EACCES
         #? bind unix @run/app/x => deny EACCES
         #? bind vsock any:5000 => move unix:/run/app-5000.sock
         #? bind vsock 3:5000 => move unix:/run/app-5000.sock
         #? bind vsock 3:5001 => deny EACCES");
}

#[test]
fn a_rule_in_doubt_never_fails_open() {
    run("allow bind tcp *:80
         deny bind udp *:53
         move bind tcp *:81 to loopback:8081
         #? bind tcp 0.0.0.0:80 => allow rule 1
         #? bind tcp 0.0.0.0:80 unknown socket => allow default
         #? bind tcp 0.0.0.0:53 unknown socket => deny EACCES rule 2
         #? bind udp 0.0.0.0:81 unknown socket => deny EACCES rule 3
         #? bind tcp 0.0.0.0:82 unknown socket => allow default");
    run("default deny
         allow bind tcp *:80 user root
         deny bind any *:90 user 33
         allow bind any *:90
         hide bind tcp *:91 user root
         allow bind any *:91
         #? bind tcp 0.0.0.0:80 user root => allow rule 1
         #? bind tcp 0.0.0.0:80 unknown user => deny EACCES default
         #? bind tcp 0.0.0.0:90 unknown user => deny EACCES rule 2
         #? bind tcp 0.0.0.0:90 user root => allow rule 3
         #? bind tcp 0.0.0.0:91 unknown user => deny EACCES rule 4");
    run("deny bind tcp *:80 for nginx
         default allow
         #? bind tcp 0.0.0.0:80 => allow default
         #? bind tcp 0.0.0.0:80 for /usr/sbin/nginx => deny EACCES rule 1
         #? bind tcp 0.0.0.0:80 unknown program => deny EACCES rule 1
         #? bind tcp 0.0.0.0:81 unknown program => allow default");
}
