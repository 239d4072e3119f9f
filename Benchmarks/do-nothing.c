// The server that does nothing: one thread, level-triggered epoll, one read and one write a request,
// no parsing. What a redirect costs at the least on this machine; everything else is measured by it.
//
// usage: do-nothing PORT
#define _GNU_SOURCE
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

static const char answer[] =
    "HTTP/1.1 302 Found\r\n"
    "Location: https://shop.example/products/0001?click_id=AAAAAAAAAAAAAAAAAAAAAA\r\n"
    "Cache-Control: private, no-store\r\n"
    "X-Robots-Tag: noindex\r\n"
    "Date: Sun, 22 Nov 2026 00:00:00 GMT\r\n"
    "Content-Length: 0\r\n\r\n";

int main(int argc, char **argv) {
    if (argc != 2) {
        fprintf(stderr, "usage: do-nothing PORT\n");
        return 64;
    }
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    int one = 1;
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    struct sockaddr_in address = {
        .sin_family = AF_INET,
        .sin_port = htons((unsigned short)atoi(argv[1])),
        .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
    };
    if (bind(listener, (struct sockaddr *)&address, sizeof address) || listen(listener, 4096)) {
        perror("do-nothing");
        return 73;
    }
    int epoll = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event event = {.events = EPOLLIN, .data.fd = listener};
    epoll_ctl(epoll, EPOLL_CTL_ADD, listener, &event);
    struct epoll_event events[256];
    char request[16384];
    for (;;) {
        int count = epoll_wait(epoll, events, 256, -1);
        for (int i = 0; i < count; i++) {
            int fd = events[i].data.fd;
            if (fd == listener) {
                int client = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
                if (client < 0) continue;
                setsockopt(client, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
                event = (struct epoll_event){.events = EPOLLIN, .data.fd = client};
                epoll_ctl(epoll, EPOLL_CTL_ADD, client, &event);
                continue;
            }
            ssize_t got = read(fd, request, sizeof request);
            if (got <= 0 || write(fd, answer, sizeof answer - 1) < 0) close(fd);
        }
    }
}
