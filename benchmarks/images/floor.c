/* The least that any client must do: fetch images over keep-alive connections with epoll, take the sha256 of
 * each, read its dimensions from the JPEG header, write them in order into a USTAR archive with a manifest, and
 * (like a shard that is named by its digest) take the sha256 of the archive.
 *
 * floor HOST PORT IMAGES CONNECTIONS ARCHIVE DIGESTS    (paths are /photos/<1..IMAGES>/medium.jpg; DIGESTS 0: none)
 * Prints: images, seconds, CPU seconds.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

typedef struct {
    int fd, image;
    char *data;
    size_t have, head, length, room;
} Connection;

typedef struct {
    char *data; /* the whole response; the body starts at `head` */
    size_t head, length;
} Body;

static int images, next_image = 1, done, archive, digests;
static Body *bodies;
static int head_of_line = 1;
static EVP_MD_CTX *whole;
static FILE *manifest;

static void fail(const char *what) {
    perror(what);
    exit(1);
}

static void ask(Connection *c) {
    char request[256];
    if (next_image > images) {
        c->image = 0;
        return;
    }
    c->image = next_image++;
    c->have = c->head = c->length = 0;
    int n = snprintf(request, sizeof request, "GET /photos/%d/medium.jpg HTTP/1.1\r\nHost: origin\r\n\r\n", c->image);
    if (write(c->fd, request, n) != n) fail("write");
}

static int dimensions(const unsigned char *d, size_t n, int *w, int *h) {
    size_t i = 2;
    if (n < 4 || d[0] != 0xff || d[1] != 0xd8 || d[n - 2] != 0xff || d[n - 1] != 0xd9) return 0;
    while (i + 9 < n) {
        int m = d[i + 1];
        if (d[i] != 0xff) return 0;
        if (m >= 0xc0 && m <= 0xcf && m != 0xc4 && m != 0xc8 && m != 0xcc) {
            *h = d[i + 5] << 8 | d[i + 6];
            *w = d[i + 7] << 8 | d[i + 8];
            return 1;
        }
        i += 2 + (d[i + 2] << 8 | d[i + 3]);
    }
    return 0;
}

static void store(int image, Body *b) {
    static char header[512], zero[512];
    unsigned char digest[32] = {0};
    char name[32];
    int w = 0, h = 0;
    unsigned sum = 0;
    const unsigned char *data = (unsigned char *)b->data + b->head;
    if (digests) EVP_Digest(data, b->length, digest, NULL, EVP_sha256(), NULL);
    if (!dimensions(data, b->length, &w, &h)) {
        fprintf(stderr, "image %d is no JPEG\n", image);
        exit(1);
    }
    snprintf(name, sizeof name, "%d.jpg", image);
    memset(header, 0, sizeof header);
    strcpy(header, name);
    strcpy(header + 100, "0000644");
    strcpy(header + 108, "0000000");
    strcpy(header + 116, "0000000");
    sprintf(header + 124, "%011zo", b->length);
    strcpy(header + 136, "00000000000");
    memset(header + 148, ' ', 8);
    header[156] = '0';
    memcpy(header + 257, "ustar\00000", 8);
    for (int i = 0; i < 512; i++) sum += (unsigned char)header[i];
    sprintf(header + 148, "%06o", sum);
    header[155] = ' ';
    size_t pad = (512 - b->length % 512) % 512;
    struct iovec parts[3] = {{header, 512}, {(void *)data, b->length}, {zero, pad}};
    for (int i = 0; digests && i < 3; i++) EVP_DigestUpdate(whole, parts[i].iov_base, parts[i].iov_len);
    if (writev(archive, parts, 3) != (ssize_t)(512 + b->length + pad)) fail("writev");
    fprintf(manifest, "%d\t%zu\t%d\t%d\t", image, b->length, w, h);
    for (int i = 0; i < 32; i++) fprintf(manifest, "%02x", digest[i]);
    fputc('\n', manifest);
    free(b->data);
    b->data = NULL;
}

static void readable(Connection *c) {
    for (;;) {
        if (!c->data) c->data = malloc(c->room = 256 * 1024);
        ssize_t n = read(c->fd, c->data + c->have, c->room - c->have);
        if (n < 0 && errno == EAGAIN) return;
        if (n <= 0) fail("read");
        c->have += n;
        if (!c->length) {
            char *end = memmem(c->data, c->have, "\r\n\r\n", 4);
            if (!end) continue;
            c->head = end + 4 - c->data;
            char *field = memmem(c->data, c->head, "Content-Length: ", 16);
            if (!field || memcmp(c->data, "HTTP/1.1 200", 12)) {
                fprintf(stderr, "image %d: unexpected answer\n", c->image);
                exit(1);
            }
            c->length = strtoul(field + 16, NULL, 10);
            if (c->head + c->length > c->room) c->data = realloc(c->data, c->room = c->head + c->length);
        }
        if (c->have < c->head + c->length) continue;
        bodies[c->image] = (Body){c->data, c->head, c->length};
        c->data = NULL;
        done++;
        while (head_of_line <= images && bodies[head_of_line].data) {
            store(head_of_line, &bodies[head_of_line]);
            head_of_line++;
        }
        ask(c);
        return;
    }
}

int main(int argc, char **argv) {
    if (argc != 7) return 2;
    images = atoi(argv[3]);
    digests = atoi(argv[6]);
    int connections = atoi(argv[4]);
    char path[4096];
    snprintf(path, sizeof path, "%s.tsv", argv[5]);
    archive = open(argv[5], O_WRONLY | O_CREAT | O_TRUNC, 0644);
    manifest = fopen(path, "w");
    if (archive < 0 || !manifest) fail(argv[5]);
    bodies = calloc(images + 1, sizeof *bodies);
    whole = EVP_MD_CTX_new();
    EVP_DigestInit_ex(whole, EVP_sha256(), NULL);
    int poll = epoll_create1(0);
    struct timespec began, ended;
    clock_gettime(CLOCK_MONOTONIC, &began);
    Connection *all = calloc(connections, sizeof *all);
    for (int i = 0; i < connections; i++) {
        struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(atoi(argv[2]))};
        int one = 1;
        inet_pton(AF_INET, argv[1], &to.sin_addr);
        all[i].fd = socket(AF_INET, SOCK_STREAM, 0);
        if (connect(all[i].fd, (struct sockaddr *)&to, sizeof to)) fail("connect");
        setsockopt(all[i].fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        fcntl(all[i].fd, F_SETFL, O_NONBLOCK);
        struct epoll_event event = {.events = EPOLLIN, .data.ptr = &all[i]};
        epoll_ctl(poll, EPOLL_CTL_ADD, all[i].fd, &event);
        ask(&all[i]);
    }
    struct epoll_event events[256];
    while (done < images) {
        int n = epoll_wait(poll, events, 256, 10000);
        if (n <= 0) fail("epoll_wait");
        for (int i = 0; i < n; i++) readable(events[i].data.ptr);
    }
    static char end[1024];
    if (write(archive, end, sizeof end) != sizeof end || fclose(manifest)) fail("write");
    unsigned char digest[32];
    EVP_DigestFinal_ex(whole, digest, NULL);
    clock_gettime(CLOCK_MONOTONIC, &ended);
    struct rusage used;
    getrusage(RUSAGE_SELF, &used);
    printf("%d %.4f %.4f\n", images,
           (double)(ended.tv_sec - began.tv_sec) + (ended.tv_nsec - began.tv_nsec) / 1e9,
           (double)(used.ru_utime.tv_sec + used.ru_stime.tv_sec) + (used.ru_utime.tv_usec + used.ru_stime.tv_usec) / 1e6);
    return 0;
}
