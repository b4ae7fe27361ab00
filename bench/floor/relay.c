/* The floor: the least that a TCP relay on io_uring can be. A yardstick, not a product.
 *
 * Multishot accept, multishot receive into one ring of provided buffers, one send per buffer, on one
 * thread. It has none of what a balancer needs: no limits, timeouts, choice, counters or log, and an
 * error of its own ends it. Nor is what a stalled reader holds bounded: a session that is flooded both
 * ways can take all buffers and stop the rest, which no workload of the comparison does. It shares no
 * line with the balancer, so that a cost which both have by mistake would not hide.
 *
 * usage: floor LISTEN=SERVER ...   each as 127.0.0.1:PORT; compiled by the comparison with `cc -O2`.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <linux/io_uring.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef IORING_SETUP_NO_SQARRAY /* Linux 6.6 */
#define IORING_SETUP_NO_SQARRAY (1U << 16)
#endif

enum { SQ_ENTRIES = 1024, CQ_ENTRIES = 8192, BUFFERS = 128, BUFFER_SIZE = 16384, LISTENERS = 8 };

/* What an operation is, in the low bits of its user_data; the rest is the pointer to its owner. */
enum { ACCEPT, CONNECT, RECEIVE, SEND, TAGS };
_Static_assert(TAGS < 8, "three bits");

/* One direction of a session. */
struct direction {
    struct session *session;
    int from, to;
    int first, last; /* filled buffers in order, linked by `next`; -1 for none */
    char armed, sending, ended, starved;
    struct direction *next_starved;
};

struct session {
    struct direction way[2]; /* from the client, from the server */
    char connecting, failed;
};

struct listener {
    _Alignas(TAGS * 2) int fd; /* the low bits of its address are the tag's */
    struct sockaddr_in server;
};

static struct {
    int fd;
    unsigned enter_flags;
    unsigned *sq_head, *sq_tail, sq_mask, tail, submitted;
    unsigned *cq_head, *cq_tail, cq_mask;
    struct io_uring_sqe *sqes;
    struct io_uring_cqe *cqes;
} ring;

static struct io_uring_buf_ring *pool;
static char *memory;
static unsigned short pool_tail;
static unsigned length[BUFFERS], sent[BUFFERS];
static int next[BUFFERS];
static struct direction *starved;
static struct listener listeners[LISTENERS];

static void die(const char *what) {
    fprintf(stderr, "floor: %s: %s\n", what, strerror(errno));
    exit(1);
}

/* The ring. */

static void enter(unsigned wait) {
    unsigned count = ring.tail - ring.submitted;
    __atomic_store_n(ring.sq_tail, ring.tail, __ATOMIC_RELEASE);
    unsigned flags = ring.enter_flags | (wait ? IORING_ENTER_GETEVENTS : 0);
    int fd = ring.enter_flags ? 0 : ring.fd;
    int done = syscall(__NR_io_uring_enter, fd, count, wait, flags, NULL, 0);
    if (done < 0 && errno != EINTR && errno != EBUSY && errno != EAGAIN) die("io_uring_enter");
    if (done > 0) ring.submitted += done;
}

static struct io_uring_sqe *operation(int opcode, int fd, void *owner, unsigned tag) {
    while (ring.tail - __atomic_load_n(ring.sq_head, __ATOMIC_ACQUIRE) == SQ_ENTRIES) enter(0);
    struct io_uring_sqe *sqe = &ring.sqes[ring.tail++ & ring.sq_mask];
    memset(sqe, 0, sizeof *sqe);
    sqe->opcode = opcode;
    sqe->fd = fd;
    sqe->user_data = (uintptr_t)owner | tag;
    return sqe;
}

static void set_up_ring(void) {
    struct io_uring_params p = {.cq_entries = CQ_ENTRIES};
    unsigned flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_CQSIZE;
    p.flags = flags | IORING_SETUP_NO_SQARRAY;
    ring.fd = syscall(__NR_io_uring_setup, SQ_ENTRIES, &p);
    int indirect = ring.fd < 0 && errno == EINVAL;
    if (indirect) {
        p = (struct io_uring_params){.cq_entries = CQ_ENTRIES, .flags = flags};
        ring.fd = syscall(__NR_io_uring_setup, SQ_ENTRIES, &p);
    }
    if (ring.fd < 0) die("io_uring_setup");
    size_t size = p.cq_off.cqes + p.cq_entries * sizeof(struct io_uring_cqe);
    size_t of_array = indirect ? p.sq_off.array + p.sq_entries * sizeof(unsigned) : 0;
    if (of_array > size) size = of_array;
    int prot = PROT_READ | PROT_WRITE, shared = MAP_SHARED | MAP_POPULATE;
    char *queues = mmap(NULL, size, prot, shared, ring.fd, IORING_OFF_SQ_RING);
    size_t of_sqes = p.sq_entries * sizeof(struct io_uring_sqe);
    ring.sqes = mmap(NULL, of_sqes, prot, shared, ring.fd, IORING_OFF_SQES);
    if (queues == MAP_FAILED || ring.sqes == MAP_FAILED) die("mmap of the ring");
    ring.sq_head = (unsigned *)(queues + p.sq_off.head);
    ring.sq_tail = (unsigned *)(queues + p.sq_off.tail);
    ring.sq_mask = *(unsigned *)(queues + p.sq_off.ring_mask);
    ring.cq_head = (unsigned *)(queues + p.cq_off.head);
    ring.cq_tail = (unsigned *)(queues + p.cq_off.tail);
    ring.cq_mask = *(unsigned *)(queues + p.cq_off.ring_mask);
    ring.cqes = (struct io_uring_cqe *)(queues + p.cq_off.cqes);
    for (unsigned n = 0; indirect && n < p.sq_entries; n++)
        ((unsigned *)(queues + p.sq_off.array))[n] = n;
    struct io_uring_rsrc_update own = {.offset = 0, .data = ring.fd};
    if (syscall(__NR_io_uring_register, ring.fd, IORING_REGISTER_RING_FDS, &own, 1) == 1)
        ring.enter_flags = IORING_ENTER_REGISTERED_RING;
}

/* The buffers. */

static void give_back(int buffer) {
    struct io_uring_buf *slot = &pool->bufs[pool_tail++ & (BUFFERS - 1)];
    slot->addr = (uintptr_t)(memory + (size_t)buffer * BUFFER_SIZE);
    slot->len = BUFFER_SIZE;
    slot->bid = buffer;
}

static void publish(void) { __atomic_store_n(&pool->tail, pool_tail, __ATOMIC_RELEASE); }

static void set_up_buffers(void) {
    int prot = PROT_READ | PROT_WRITE, flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE;
    pool = mmap(NULL, BUFFERS * sizeof(struct io_uring_buf), prot, flags, -1, 0);
    memory = mmap(NULL, (size_t)BUFFERS * BUFFER_SIZE, prot, flags, -1, 0);
    if (pool == MAP_FAILED || memory == MAP_FAILED) die("mmap of the buffers");
    struct io_uring_buf_reg group = {.ring_addr = (uintptr_t)pool, .ring_entries = BUFFERS};
    if (syscall(__NR_io_uring_register, ring.fd, IORING_REGISTER_PBUF_RING, &group, 1) < 0)
        die("a ring of buffers");
    for (int n = 0; n < BUFFERS; n++) give_back(n);
    publish();
}

/* Sessions. */

static void receive(struct direction *way) {
    struct io_uring_sqe *sqe = operation(IORING_OP_RECV, way->from, way, RECEIVE);
    sqe->ioprio = IORING_RECV_MULTISHOT | IORING_RECVSEND_POLL_FIRST;
    sqe->flags = IOSQE_BUFFER_SELECT;
    way->armed = 1;
}

static void send_first(struct direction *way) {
    int buffer = way->first;
    struct io_uring_sqe *sqe = operation(IORING_OP_SEND, way->to, way, SEND);
    sqe->addr = (uintptr_t)(memory + (size_t)buffer * BUFFER_SIZE + sent[buffer]);
    sqe->len = length[buffer] - sent[buffer];
    sqe->msg_flags = MSG_WAITALL | MSG_NOSIGNAL;
    way->sending = 1;
}

static void close_later(int fd) {
    operation(IORING_OP_CLOSE, fd, NULL, TAGS)->flags = IOSQE_CQE_SKIP_SUCCESS;
}

static int is_busy(const struct direction *way) {
    return way->armed || way->sending || way->starved;
}

/* Ends the session if nothing is left to do, and passes a half-close on. */
static void settle(struct session *session) {
    struct direction *a = &session->way[0], *b = &session->way[1];
    if (session->connecting) return;
    if (is_busy(a) || is_busy(b)) return;
    if (!session->failed && !(a->ended && b->ended)) return;
    close_later(a->from);
    close_later(a->to);
    free(session);
}

/* Gives back what waits to be sent, but for a buffer that the kernel has; a starved receive, maybe
 * one of this session, waits for them. */
static void drop(struct direction *way) {
    int buffer = way->sending ? next[way->first] : way->first;
    if (way->sending) next[way->last = way->first] = -1;
    else way->first = -1;
    while (buffer >= 0) {
        int after = next[buffer];
        give_back(buffer);
        buffer = after;
    }
}

static void fail(struct session *session) {
    if (session->failed) return;
    session->failed = 1;
    drop(&session->way[0]);
    drop(&session->way[1]);
    shutdown(session->way[0].from, SHUT_RDWR); /* ends the receives */
    shutdown(session->way[0].to, SHUT_RDWR);
}

/* Everything that came has gone, and the end has come too: pass it on, unless all is over. */
static void pass_end_on(struct direction *way) {
    struct direction *other = &way->session->way[way == way->session->way];
    if (!other->ended) shutdown(way->to, SHUT_WR);
}

static void accepted(struct listener *listener, int result) {
    if (result < 0) return;
    int server = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct session *session = calloc(1, sizeof *session);
    if (server < 0 || !session) die("a session");
    int yes = 1;
    setsockopt(server, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
    session->way[0] = (struct direction){session, result, server, -1, -1, 0, 0, 0, 0, NULL};
    session->way[1] = (struct direction){session, server, result, -1, -1, 0, 0, 0, 0, NULL};
    session->connecting = 1;
    struct io_uring_sqe *sqe = operation(IORING_OP_CONNECT, server, session->way, CONNECT);
    sqe->addr = (uintptr_t)&listener->server;
    sqe->off = sizeof listener->server;
}

static void connected(struct session *session, int result) {
    session->connecting = 0;
    if (result < 0) {
        fail(session);
    } else {
        receive(&session->way[0]);
        receive(&session->way[1]);
    }
    settle(session);
}

static void received(struct direction *way, int result, unsigned flags) {
    if (!(flags & IORING_CQE_F_MORE)) way->armed = 0;
    int buffer = flags >> IORING_CQE_BUFFER_SHIFT;
    if (result > 0 && way->session->failed) {
        give_back(buffer);
    } else if (result > 0) {
        length[buffer] = result;
        sent[buffer] = 0;
        next[buffer] = -1;
        if (way->first < 0) way->first = buffer;
        else next[way->last] = buffer;
        way->last = buffer;
        if (!way->sending) send_first(way);
        if (!way->armed) receive(way);
    } else if (result == -ENOBUFS && !way->session->failed) {
        way->starved = 1;
        way->next_starved = starved;
        starved = way;
    } else if (result == 0) {
        way->ended = 1;
        if (way->first < 0 && !way->session->failed) pass_end_on(way);
    } else {
        fail(way->session);
    }
    settle(way->session);
}

static void sent_some(struct direction *way, int result) {
    way->sending = 0;
    if (result <= 0) fail(way->session); /* drops the buffer too */
    if (way->session->failed) {
        drop(way);
        settle(way->session);
        return;
    }
    int buffer = way->first;
    sent[buffer] += result;
    if (sent[buffer] == length[buffer]) {
        way->first = next[buffer];
        give_back(buffer);
    }
    if (way->first >= 0) send_first(way);
    else if (way->ended) pass_end_on(way);
    settle(way->session);
}

/* Receives that found no buffer try again: some have come back. */
static void feed_starved(void) {
    struct direction *way = starved;
    starved = NULL;
    while (way) {
        struct direction *after = way->next_starved;
        way->starved = 0;
        if (way->session->failed) settle(way->session);
        else receive(way);
        way = after;
    }
}

static void completed(const struct io_uring_cqe *cqe) {
    void *owner = (void *)(uintptr_t)(cqe->user_data & ~(uint64_t)7);
    switch (cqe->user_data & 7) {
    case ACCEPT:
        if (!(cqe->flags & IORING_CQE_F_MORE)) die("accept ended");
        accepted(owner, cqe->res);
        break;
    case CONNECT:
        connected(((struct direction *)owner)->session, cqe->res);
        break;
    case RECEIVE:
        received(owner, cqe->res, cqe->flags);
        break;
    case SEND:
        sent_some(owner, cqe->res);
        break;
    }
}

/* Start. */

static struct sockaddr_in address(const char *text) {
    struct sockaddr_in found = {.sin_family = AF_INET};
    const char *colon = strchr(text, ':');
    if (!colon) errno = EINVAL, die(text);
    found.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    found.sin_port = htons(atoi(colon + 1));
    return found;
}

static void listen_on(struct listener *listener, const char *text) {
    const char *server = strchr(text, '=');
    if (!server) errno = EINVAL, die(text);
    struct sockaddr_in own = address(text);
    listener->server = address(server + 1);
    listener->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int yes = 1;
    setsockopt(listener->fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    setsockopt(listener->fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes); /* inherited */
    if (bind(listener->fd, (void *)&own, sizeof own) < 0 || listen(listener->fd, 4096) < 0)
        die(text);
    operation(IORING_OP_ACCEPT, listener->fd, listener, ACCEPT)->ioprio = IORING_ACCEPT_MULTISHOT;
}

int main(int count, char **arguments) {
    struct rlimit files;
    if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
        files.rlim_cur = files.rlim_max;
        setrlimit(RLIMIT_NOFILE, &files);
    }
    set_up_ring();
    set_up_buffers();
    for (int n = 1; n < count && n <= LISTENERS; n++) listen_on(&listeners[n - 1], arguments[n]);
    for (;;) {
        enter(1);
        unsigned head = *ring.cq_head;
        unsigned tail = __atomic_load_n(ring.cq_tail, __ATOMIC_ACQUIRE);
        unsigned short before = pool_tail;
        for (; head != tail; head++) completed(&ring.cqes[head & ring.cq_mask]);
        __atomic_store_n(ring.cq_head, head, __ATOMIC_RELEASE);
        if (pool_tail != before) {
            publish();
            if (starved) feed_starved();
        }
    }
}
