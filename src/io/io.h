/*
 * io.h - sockets and time for the I/O thread: an epoll loop with timers, UDP with batching, TCP.
 *
 * Knows nothing of protocols. Everything here belongs to the I/O thread once it runs; opening and
 * binding happens before, on the thread that creates the server.
 */
#ifndef PH_IO_H
#define PH_IO_H

#include "../base/base.h"

/* --- Loop --- */

struct ph_loop;

enum { PH_IO_READ = 1, PH_IO_WRITE = 2, PH_IO_HANGUP = 4 };

/* One watched descriptor; embed it. */
struct ph_watch {
    int fd;
    uint64_t since; /* the dispatch before it; PH_NEVER: removed */
    unsigned
        interest; /* PH_IO_READ | PH_IO_WRITE; kept by ph_loop_watch() and ph_loop_interest() */
    /* `ready` holds what is ready of the interest at this moment. PH_IO_HANGUP (the peer reset the
     * connection, or both sides are shut; comes with the bits of the interest) is told whatever the
     * interest, turn after turn until the watch is removed: close on it after reading the rest.
     * May add, change and remove watches, this one included; memory of a removed watch must stay
     * until the end of the turn (free it in the reap phase). */
    void (*on_ready)(struct ph_watch *watch, unsigned ready);
};

/* One timer; embed it. Zero is its initial state. */
struct ph_timer {
    uint64_t at;                                           /* ns, monotonic */
    void (*on_fire)(struct ph_timer *timer, uint64_t now); /* may set it again */
    size_t slot; /* 1-based index in the heap; 0: not set */
};

struct ph_loop *ph_loop_new(void); /* NULL when the system refuses */
void ph_loop_free(struct ph_loop *loop);
int ph_loop_watch(struct ph_loop *loop, struct ph_watch *watch, unsigned interest); /* PH_E_IO */
void ph_loop_interest(struct ph_loop *loop, struct ph_watch *watch,
                      unsigned interest); /* no system call if unchanged */
/* Before its descriptor is closed. */
void ph_loop_unwatch(struct ph_loop *loop, struct ph_watch *watch);
/* Waits at most until `deadline` (ns, PH_NEVER: for ever; <= now: not at all). Meanwhile another
 * thread may call the other functions, if it is kept from it by the time this returns. */
void ph_loop_wait(struct ph_loop *loop, uint64_t now, uint64_t deadline);
void ph_loop_dispatch(struct ph_loop *loop); /* calls on_ready of what the wait found ready */

void ph_loop_timer_set(struct ph_loop *loop, struct ph_timer *timer,
                       uint64_t at); /* moves it when set; PH_NEVER cancels */
void ph_loop_timer_cancel(struct ph_loop *loop, struct ph_timer *timer);
uint64_t ph_loop_timer_next(const struct ph_loop *loop); /* PH_NEVER when none */
/* Fires what is due. What on_fire sets to `now` or before fires in the next run. */
void ph_loop_timers_run(struct ph_loop *loop, uint64_t now);

/* --- Names --- */

/* Resolves "host:port", "[v6]:port", "localhost:0", "*:80" or ":80" (all addresses) to at most
 * `max` addresses. Returns their count, or PH_E_CONFIG with a sentence that names `text`. Blocking;
 * before the I/O thread runs. */
int ph_resolve(struct ph_addr *out, size_t max, const char *text, struct ph_err *err);

/* --- UDP --- */

struct ph_udp;

struct ph_udp_options {
    size_t buffer_bytes; /* asked for each way; what the kernel grants is read back */
    bool reuse_port;
    bool no_gso, no_gro; /* for tests of the fallbacks */
};

struct ph_udp_packet {
    struct ph_path path; /* path.sock is the ph_udp */
    uint8_t ecn;         /* 0 to 3 */
    const uint8_t *data; /* borrow, during the call */
    size_t n;
};
typedef void (*ph_udp_packet_fn)(void *self, const struct ph_udp_packet *packet);

/* Opens, configures (packet info, ECN, GRO, buffers, no fragmentation) and binds. `addr` comes back
 * with the bound port. PH_E_IO with a sentence that names the address. Logs one line when the
 * kernel capped the buffers, with the sysctl to raise and the value. */
int ph_udp_open(struct ph_udp **out, struct ph_addr *addr, const struct ph_udp_options *options,
                struct ph_err *err);
/* The same with a bound UDP socket that came from elsewhere: configures and takes `fd`, also on
 * failure. */
int ph_udp_adopt(struct ph_udp **out, int fd, struct ph_addr *addr,
                 const struct ph_udp_options *options, struct ph_err *err);
void ph_udp_close(struct ph_udp *udp);
int ph_udp_fd(const struct ph_udp *udp);
/* Receives about `budget` datagrams (an empty one counts too) and hands each to `fn`. Returns how
 * many; 0: none left. The budget is looked at between system calls and a train of datagrams that
 * the kernel coalesced is handed over whole, so up to 8 trains (512 KiB) may pass it; datagrams
 * that came one by one never do. Counts packets_in and recv_calls. */
int ph_udp_recv(struct ph_udp *udp, int budget, ph_udp_packet_fn fn, void *self,
                struct ph_stats *stats);
/* Sends `n` bytes as datagrams of `segment` bytes (the last may be shorter) to path->remote from
 * path->local, by UDP_SEGMENT, sendmmsg or sendmsg, whichever the kernel takes. Returns the bytes
 * that left in whole datagrams: less than n when the socket is full. Errors of one destination
 * and of a system without memory or queue space (ENOBUFS, ENOMEM) count as sent (loss recovery
 * deals with it); PH_E_TOOBIG when the datagram exceeds the
 * interface's MTU (path MTU discovery wants to know). Counts packets_out (datagrams) and
 * send_calls. */
ssize_t ph_udp_send(struct ph_udp *udp, const struct ph_path *path, uint8_t ecn,
                    const uint8_t *data, size_t n, size_t segment, struct ph_stats *stats);

/* One more socket on the same port, for another process (steer.c). The descriptor, or PH_E_IO with
 * a sentence. */
int ph_udp_sibling(const struct ph_udp *first, const struct ph_addr *addr, struct ph_err *err);
/* Where a payload names the socket it is for; all in bytes. */
struct ph_udp_steering {
    uint8_t long_bit;               /* of the first byte: a long header */
    uint8_t short_slot;             /* where the number is, in a short one */
    uint8_t long_length, id_length; /* where the length of the id is, and ours */
    uint8_t long_id, long_slot;     /* where the id is, and the number in it */
    uint32_t sockets;               /* in the group; numbers above name none */
    uint32_t spread;                /* of those, the first ones get what names none */
};
/* For all sockets of the group of `udp`, instead of what was said before. PH_E_IO: the kernel
 * cannot.
 */
int ph_udp_steer(const struct ph_udp *udp, const struct ph_udp_steering *by);

/* --- Mesh: packets for other processes (mesh.c) --- */

struct ph_mesh;

struct ph_mesh_packet {
    struct ph_addr local, remote;
    uint16_t socket; /* which of the listening ones, by their order */
    uint8_t ecn;
    const uint8_t *data; /* borrow, during the call */
    size_t n;
};
typedef void (*ph_mesh_packet_fn)(void *self, const struct ph_mesh_packet *packet);

struct ph_mesh *ph_mesh_new(int fd); /* takes the descriptor that others write to */
void ph_mesh_free(struct ph_mesh *mesh);
int ph_mesh_fd(const struct ph_mesh *mesh);
/* Takes the descriptor on which a worker is reached; -1: it is gone. */
void ph_mesh_peer(struct ph_mesh *mesh, uint16_t worker, int fd);
/* PH_E_NOTFOUND: there is no such worker (any more); PH_E_AGAIN: its socket is full. */
int ph_mesh_send(struct ph_mesh *mesh, uint16_t worker, const struct ph_mesh_packet *packet);
int ph_mesh_recv(struct ph_mesh *mesh, int budget, ph_mesh_packet_fn fn, void *self);
/* What ph_mesh_recv() makes of a datagram; false: nothing. */
bool ph_mesh_decode(struct ph_mesh_packet *packet, const uint8_t *data, size_t n);

/* --- TCP and Unix stream sockets --- */

/* Bytes written to a TCP socket that its peer has not acknowledged; 0 when that cannot be told. */
size_t ph_tcp_unacked(int fd);
/* What to do about a port that may not be bound, to end a sentence; "" when errno `code` is about
 * something else. */
const char *ph_port_hint(const struct ph_addr *addr, int code);
/* Opens a listening socket. `addr` comes back with the bound port. Returns the descriptor or
 * PH_E_IO with a sentence. */
int ph_tcp_listen(struct ph_addr *addr, int backlog, bool reuse_port, struct ph_err *err);

/* A Unix socket that this process listens on, and the right to remove its file. */
struct ph_unix_file {
    dev_t dev;
    ino_t ino;
    pid_t maker; /* 0: no file, or not ours */
};
struct ph_unix_options {
    unsigned mode;
    uid_t uid; /* (uid_t)-1: as it is */
    gid_t gid;
};
/* Longest path of a Unix socket, without its NUL. */
#define PH_UNIX_PATH_MAX 107
/* Listens on `path` ("@name": abstract, no file). A socket file that nobody listens on any more is
 * replaced; a live server, a file that is no socket and a socket of another user are refused.
 * Returns the descriptor or PH_E_IO with a sentence. */
int ph_unix_listen(struct ph_unix_file *file, const char *path,
                   const struct ph_unix_options *options, int backlog, struct ph_err *err);
/* Removes the file if this process made it and it is still the same. */
void ph_unix_remove(const char *path, const struct ph_unix_file *file);
/* Prepares a descriptor that came from elsewhere for accepting (listens if it does not yet); the
 * caller keeps it, a duplicate is returned, or PH_E_CONFIG or PH_E_IO with a sentence. `path` (at
 * least PH_UNIX_PATH_MAX + 2 bytes) is "" for an IP socket, whose address is `addr`. */
int ph_inherit_listener(int fd, int backlog, struct ph_addr *addr, char *path, struct ph_err *err);
/* The same for a bound UDP socket. */
int ph_inherit_udp(int fd, struct ph_err *err);
/* What a service manager handed over (sd_listen_fds(3): LISTEN_PID, LISTEN_FDS, LISTEN_FDNAMES):
 * fills `out` with the descriptors of one socket type (SOCK_STREAM, SOCK_DGRAM) that have the name
 * (NULL: any). Returns their count, at most `max`. */
#define PH_INHERIT_MAX 64
int ph_inherit_list(int *out, int max, int type, const char *name);
/* One descriptor kept for the day when there is none left; embed it, one for all listeners of a
 * thread. */
struct ph_tcp_spare {
    int fd; /* -1: none */
};
void ph_tcp_spare_init(struct ph_tcp_spare *spare);
void ph_tcp_spare_fini(struct ph_tcp_spare *spare);
/* Accepts one connection, nonblocking, TCP_NODELAY. The descriptor, PH_E_AGAIN, or PH_E_IO (out of
 * descriptors: the caller pauses; the connection at hand was closed with the spare descriptor so
 * that the loop does not spin). Of a Unix socket, `remote` and `local` are unset. */
int ph_tcp_accept(int listener, struct ph_tcp_spare *spare, struct ph_addr *remote,
                  struct ph_addr *local);
/* Reads up to `cap` bytes. Count, 0 at the end, PH_E_AGAIN, PH_E_CLOSED. */
ssize_t ph_tcp_read(int fd, void *out, size_t cap);
/* Writes from the queue's cursor, advancing and dropping what the kernel took. Bytes written,
 * PH_E_AGAIN when full, PH_E_CLOSED. Stops in front of a file. */
ssize_t ph_tcp_write(int fd, struct ph_sliceq *q);
/* Sends at most `max` of the file's bytes under the cursor, without copying them through this
 * process. As ph_tcp_write(), and PH_E_IO when the file cannot be read or ends too early. Waits for
 * the disk when they are not in memory: see ph_reader_is_cached(). */
ssize_t ph_tcp_send_file(int fd, struct ph_sliceq *q, size_t max);

/* --- Files --- */

/* Reads files on a thread of its own, because a disk (or a network behind it) may let a reader wait
 * as long as it likes. What is in memory already is read at once, on the I/O thread. */
struct ph_reader;

struct ph_reader_job {
    struct ph_reader_job *next;
    int fd; /* borrow, until it is done */
    uint64_t offset;
    uint8_t *data; /* room for n bytes, until it is done */
    size_t n;
    ssize_t got; /* when done: bytes, less than n at the end of the file; PH_E_IO */
    void (*on_done)(struct ph_reader_job *job);
};

/* `wake` is rung when something is done. NULL when the system refuses a thread. */
struct ph_reader *ph_reader_new(struct ph_ring *wake);
/* Waits for the job at hand, then calls on_done of it and of all others; those not begun with
 * PH_E_IO. */
void ph_reader_free(struct ph_reader *reader);
void ph_reader_submit(struct ph_reader *reader, struct ph_reader_job *job);
void ph_reader_run(struct ph_reader *reader); /* calls on_done of what is done */
/* Reads what is in memory of a range: bytes; 0 at the end of the file; PH_E_AGAIN: the disk is
 * needed; PH_E_IO. */
ssize_t ph_reader_try(int fd, uint64_t offset, uint8_t *data, size_t n);
/* Whether the first and the last byte of a range are in memory. */
bool ph_reader_is_cached(int fd, uint64_t offset, size_t n);

#endif
