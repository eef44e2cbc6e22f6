// SPDX-License-Identifier: GPL-3.0-or-later
/* A load generator that costs little beside what it loads: one thread, one epoll, requests from
 * templates. `generator PLAN` does what a plan says and prints what it saw as JSON;
 * bench/generator.py writes plans, compiles this and reads the JSON.
 *
 * Closed loop: a connection sends its next batch when all replies to the one before are in. At a
 * fixed rate batches are due at fixed times, whoever is free sends the one that is longest due, and
 * latency counts from when it was due, so that a pause shows in every request that it delayed
 * (Tene, "How NOT to Measure Latency": coordinated omission).
 *
 * Every reply is read to its end and judged: a success, a miss (a read that found nothing) or an
 * error. What makes the figures mean nothing ends the run with code 1 and a line on standard error:
 * a connection that is lost, bytes that are no reply, a reply to no request.
 *
 * A plan is lines of words: a name, then its values. `target` begins what belongs to one port. A
 * template is a number of replies and then parts: bytes in hexadecimal, or a hole that each request
 * fills. K is the key's number in 15 digits, B the same in base64, V64 a value of 64 bytes, S the
 * number of an HTTP/2 stream. `tls 1` has all of it go through TLS, whoever the server is; `churn 1`
 * sends each batch on a connection of its own. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

enum {
    KEY_DIGITS = 15,
    HOLES_MAX = 8,
    TARGETS_MAX = 64,
    KINDS_MAX = 32,
    KIND_BYTES = 48,
    EVENTS_MAX = 256,
    READ_BYTES = 256 << 10,
    REST_BYTES = 32 << 10, /* Of the beginning of a reply: a head, or an HTTP/2 frame. */
    POOL_BYTES = 64 << 10, /* Values are stretches of this many random letters, and then as many as
                              the longest has. */
    EXACT_US = 256,        /* Latencies below are counted by the microsecond... */
    OCTAVE_BUCKETS = EXACT_US / 2, /* ...and from there on in so many buckets for each doubling. */
    LATENCY_US_MAX = 600000000,
    BUCKETS = EXACT_US + OCTAVE_BUCKETS * 23,
};
#define SECOND 1000000000ull
#define DRAIN_NS (2 * SECOND)    /* After the end the last replies are waited for, */
#define CATCH_UP_NS (1 * SECOND) /* and what was due before the end is still sent. */
#define TURN_NS (SECOND / 20)

struct template {
    char *bytes;
    size_t size;
    int replies; /* To one request: a SET and its WAIT have two. */
    int hole_count;
    struct hole {
        size_t at, size;
        char kind;
    } holes[HOLES_MAX];
};

struct target {
    int port;
    struct template hello, read, write;
    uint32_t *keys; /* Those that are asked for here; NULL: all. */
    size_t key_count;
};

struct connection {
    int fd;
    SSL *tls; /* NULL: plain. */
    struct target *target;
    bool is_read;
    int replies;     /* To each request under way, */
    int missing;     /* and to all of them, still to come. */
    uint64_t begun;  /* When the batch was sent, or due. */
    uint32_t stream; /* Of the next HTTP/2 request. */
    bool has_data;   /* Whether the HTTP/2 reply under way brought anything. */
    char *out;       /* The batch. */
    size_t out_size, out_sent;
    bool is_blocked; /* Whether the socket takes no more of it now. */
    size_t skip;     /* Bytes of a reply still to come that need not be looked at. */
    char *rest;      /* The beginning of a reply. */
    size_t rest_size;
};

/* The plan. */
static size_t connection_count = 1, pipeline = 1, in_order; /* in_order: each key once, up to it. */
static size_t keys = 1;
static double reads, rate, seconds;
static long wait_for_replicas;
static int is_tls, is_churn;
static char *mark; /* What the reply to a read that found something has in it; NULL: any. */
static size_t mark_size;
static struct target targets[TARGETS_MAX];
static size_t target_count;

/* What was seen. */
static uint64_t counts[BUCKETS];
static uint64_t answered, in_time, missed, backlog;
static struct kind {
    char name[KIND_BYTES];
    uint64_t count;
} kinds[KINDS_MAX];

/* The run. */
static struct connection *connections, **free_ones; /* A ring of those that wait for what is due. */
static size_t free_first, free_count, busy;
static uint64_t end = UINT64_MAX, due = UINT64_MAX, interval, next_in_order, chance = 1;
static char *pool, input[REST_BYTES + READ_BYTES];
static int poller;
static SSL_CTX *context;

typedef size_t take_reply(struct connection *, const char *data, size_t size, bool *is_reply);
static take_reply take_resp, take_http, take_http2, *take_one = take_resp;

__attribute__((noreturn, format(printf, 1, 2))) static void die(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fputc('\n', stderr);
    exit(1);
}

static void *allocate(size_t size) {
    void *memory = calloc(1, size);
    if (!memory) die("no memory");
    return memory;
}

static uint64_t now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * SECOND + now.tv_nsec;
}

static uint64_t random_number(void) { /* splitmix64 (Steele, Lea, Flood 2014). */
    uint64_t mixed = chance += 0x9e3779b97f4a7c15;
    mixed = (mixed ^ mixed >> 30) * 0xbf58476d1ce4e5b9;
    mixed = (mixed ^ mixed >> 27) * 0x94d049bb133111eb;
    return mixed ^ mixed >> 31;
}

static uint64_t random_below(uint64_t bound) { return (__uint128_t)random_number() * bound >> 64; }

/* --- connections ---------------------------------------------------------------------------- */

/* Bytes that went, or came; 0 at the end of what comes, -1 with errno. */
static ssize_t result_of(struct connection *c, int result) {
    if (result > 0) return result;
    int kind = SSL_get_error(c->tls, result);
    if (kind == SSL_ERROR_ZERO_RETURN) return 0;
    if (kind == SSL_ERROR_WANT_READ || kind == SSL_ERROR_WANT_WRITE) errno = EAGAIN;
    if (kind == SSL_ERROR_SSL) die("TLS: %s", ERR_reason_error_string(ERR_peek_error()));
    return -1;
}

static ssize_t put_bytes(struct connection *c, const char *bytes, size_t size) {
    return c->tls ? result_of(c, SSL_write(c->tls, bytes, size)) : write(c->fd, bytes, size);
}

static ssize_t get_bytes(struct connection *c, char *bytes, size_t size) {
    return c->tls ? result_of(c, SSL_read(c->tls, bytes, size)) : read(c->fd, bytes, size);
}

/* Connect, shake hands, say hello, and take the replies to that, each of which is a line. */
static void open_connection(struct connection *c) {
    const struct template *hello = &c->target->hello;
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(c->target->port)};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    c->stream = 1;
    c->fd = socket(AF_INET, SOCK_STREAM, 0);
    if (c->fd < 0 || connect(c->fd, (struct sockaddr *)&address, sizeof address))
        die("port %d: %s", c->target->port, strerror(errno));
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int));
    if (context) {
        c->tls = SSL_new(context);
        SSL_set_fd(c->tls, c->fd);
        if (SSL_connect(c->tls) != 1) die("TLS: %s", ERR_reason_error_string(ERR_peek_error()));
    }
    if (hello->size && put_bytes(c, hello->bytes, hello->size) != (ssize_t)hello->size)
        die("no hello");
    char last = '\n', one;
    for (int missing = hello->replies; missing; missing -= one == '\n', last = one) {
        if (get_bytes(c, &one, 1) != 1) die("no reply to the hello");
        if (last == '\n' && one == '-') die("the hello is refused");
    }
    fcntl(c->fd, F_SETFL, O_NONBLOCK);
    struct epoll_event wanted = {EPOLLIN, {.ptr = c}};
    if (epoll_ctl(poller, EPOLL_CTL_ADD, c->fd, &wanted)) die("epoll: %s", strerror(errno));
}

/* With a reset, so that its port is free at once: there are fewer than connections in a minute. */
static void close_connection(struct connection *c) {
    setsockopt(c->fd, SOL_SOCKET, SO_LINGER, &(struct linger){1, 0}, sizeof(struct linger));
    SSL_free(c->tls);
    c->tls = NULL;
    close(c->fd);
}

/* --- counting ------------------------------------------------------------------------------- */

int bucket_of(uint64_t us) {
    if (us > LATENCY_US_MAX) us = LATENCY_US_MAX;
    if (us < EXACT_US) return us;
    int octave = 63 - __builtin_clzll(us) - 7;
    return OCTAVE_BUCKETS * octave + (us >> octave);
}

uint64_t middle_of(int bucket) {
    if (bucket < EXACT_US) return bucket;
    int octave = bucket / OCTAVE_BUCKETS - 1;
    return ((uint64_t)(bucket - OCTAVE_BUCKETS * octave) << octave) + (1ull << octave) / 2;
}

/* An error, by what is said up to one of the stops. */
static void fail(const char *said, const char *stops, uint64_t count) {
    char name[KIND_BYTES];
    int place = 0;
    snprintf(name, sizeof name, "%.*s", (int)strcspn(said, stops), said);
    for (char *at = name; *at; at++)
        if (*at < ' ' || *at == '"' || *at == '\\') *at = '?'; /* It goes into JSON. */
    while (place < KINDS_MAX - 1 && kinds[place].count && strcmp(kinds[place].name, name)) place++;
    if (!kinds[place].count) strcpy(kinds[place].name, place < KINDS_MAX - 1 ? name : "others");
    kinds[place].count += count;
}

/* --- replies -----------------------------------------------------------------------------------
 * Each judges what `data` begins with and returns its size, or 0 if more of it must come first. It
 * may be more than there is: the rest is not looked at. */

static size_t take_resp(struct connection *c, const char *data, size_t size, bool *is_reply) {
    char *line_end = memmem(data, size, "\r\n", 2), *number_end;
    (void)c, (void)is_reply;
    if (!line_end) return 0;
    size_t line = line_end + 2 - data;
    if (*data == '+') return line;
    long number = strtol(data + 1, &number_end, 10);
    if (*data != '-' && number_end != line_end) die("no RESP reply: %.*s", (int)line - 2, data);
    if (*data == '$' && number >= 0) return line + number + 2;
    if (*data == '$')
        missed++;
    else if (*data == '-')
        fail(data + 1, " \r\n", 1);
    else if (*data != ':')
        die("no RESP reply: %.*s", (int)line - 2, data);
    else if (number < wait_for_replicas)
        fail("WAIT reached too few replicas", "", 1);
    return line;
}

static size_t take_http(struct connection *c, const char *data, size_t size, bool *is_reply) {
    static const char length_name[] = "\r\ncontent-length:";
    const char *head_end = memmem(data, size, "\r\n\r\n", 4), *at = data;
    (void)is_reply;
    if (!head_end) return 0;
    if (head_end - data < 12 || memcmp(data, "HTTP/1.", 7)) die("no HTTP response: %.20s", data);
    while (at < head_end && strncasecmp(at, length_name, sizeof length_name - 1))
        at = memchr(at + 1, '\r', head_end + 1 - at);
    if (at >= head_end) die("an HTTP response without its length");
    size_t whole = head_end + 4 - data + strtoul(at + sizeof length_name - 1, NULL, 10);
    if (mark && size < whole) return 0;
    bool is_found = data[9] == '2' && (!mark || memmem(data, whole, mark, mark_size));
    if (c->is_read && !is_found && (data[9] == '2' || !memcmp(data + 9, "404", 3)))
        missed++;
    else if (data[9] != '2')
        fail(data + 9, " \r\n", 1);
    return whole;
}

/* RFC 9113. A gRPC call that succeeded brings DATA, one that failed only trailers or a reset. */
static size_t take_http2(struct connection *c, const char *data, size_t size, bool *is_reply) {
    enum { HEAD = 9, DATA = 0, HEADERS = 1, RESET = 3, SETTINGS = 4, PING = 6, GOAWAY = 7 };
    enum { ACK = 1, END_STREAM = 1 };
    const unsigned char *head = (const unsigned char *)data;
    *is_reply = false;
    if (size < HEAD) return 0;
    size_t payload = head[0] << 16 | head[1] << 8 | head[2], whole = HEAD + payload;
    if (size < whole) return 0;
    int kind = head[3], flags = head[4];
    if (kind == GOAWAY) die("the server ends the connection");
    if (kind == DATA) {
        c->has_data = true;
        if (c->is_read && mark && !memmem(data + HEAD, payload, mark, mark_size)) missed++;
    } else if (kind == RESET || (kind == HEADERS && flags & END_STREAM)) {
        if (kind == RESET || !c->has_data) fail("a call that failed", "", 1);
        c->has_data = false;
        *is_reply = true;
    } else if ((kind == SETTINGS || kind == PING) && !(flags & ACK)) {
        char said[HEAD + 8] = {0, 0, kind == PING ? 8 : 0, kind, ACK};
        size_t length = HEAD + said[2];
        memcpy(said + HEAD, data + HEAD, said[2]);
        if (put_bytes(c, said, length) != (ssize_t)length) die("no answer to a ping");
    }
    return whole;
}

/* --- requests ------------------------------------------------------------------------------- */

static void put_key(char *at, char kind, uint64_t key) {
    static const char base64[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    char digits[KEY_DIGITS];
    for (int place = KEY_DIGITS - 1; place >= 0; place--, key /= 10) digits[place] = '0' + key % 10;
    if (kind == 'K') {
        memcpy(at, digits, KEY_DIGITS);
        return;
    }
    for (int place = 0; place < KEY_DIGITS; place += 3, at += 4) {
        uint32_t three = digits[place] << 16 | digits[place + 1] << 8 | digits[place + 2];
        for (int sixth = 0; sixth < 4; sixth++) at[sixth] = base64[three >> (18 - 6 * sixth) & 63];
    }
}

static char *put_request(struct connection *c, const struct template *t, char *at, uint64_t key) {
    memcpy(at, t->bytes, t->size);
    for (const struct hole *hole = t->holes; hole < t->holes + t->hole_count; hole++) {
        uint32_t stream = htonl(c->stream);
        if (hole->kind == 'V')
            memcpy(at + hole->at, pool + random_below(POOL_BYTES), hole->size);
        else if (hole->kind == 'S')
            memcpy(at + hole->at, &stream, sizeof stream);
        else
            put_key(at + hole->at, hole->kind, key);
    }
    c->stream += 2;
    return at + t->size;
}

static uint64_t next_key(const struct target *t) {
    if (in_order) return next_in_order++;
    return t->keys ? t->keys[random_below(t->key_count)] : random_below(keys);
}

static void send_rest(struct connection *c) {
    ssize_t sent = put_bytes(c, c->out + c->out_sent, c->out_size - c->out_sent);
    if (sent < 0 && errno != EAGAIN) die("port %d: %s", c->target->port, strerror(errno));
    c->out_sent += sent > 0 ? sent : 0;
    if (c->is_blocked == (c->out_sent < c->out_size)) return;
    c->is_blocked = !c->is_blocked;
    struct epoll_event wanted = {EPOLLIN | (c->is_blocked ? EPOLLOUT : 0), {.ptr = c}};
    epoll_ctl(poller, EPOLL_CTL_MOD, c->fd, &wanted);
}

/* Send a batch that is to be measured from `begun`. */
static void start(struct connection *c, uint64_t begun) {
    size_t count = pipeline;
    if (in_order && in_order - next_in_order < count) count = in_order - next_in_order;
    c->is_read = (random_number() >> 11) * 0x1p-53 < reads;
    const struct template *t = c->is_read ? &c->target->read : &c->target->write;
    char *at = c->out;
    for (size_t each = 0; each < count; each++) at = put_request(c, t, at, next_key(c->target));
    c->out_size = at - c->out;
    c->out_sent = 0;
    c->replies = t->replies;
    c->missing = count * t->replies;
    c->begun = begun;
    busy++;
    send_rest(c);
}

static void start_due(uint64_t now) {
    while (free_count && due <= now && due < end && now < end + CATCH_UP_NS) {
        start(free_ones[free_first], due);
        free_first = (free_first + 1) % connection_count;
        free_count--;
        due += interval;
    }
}

/* A connection has nothing under way: give it what is next, if anything is. */
static void next(struct connection *c, uint64_t now) {
    if (interval) {
        free_ones[(free_first + free_count++) % connection_count] = c;
        start_due(now);
    } else if (now < end && (!in_order || next_in_order < in_order)) {
        start(c, now);
    }
}

static void on_reply(struct connection *c, uint64_t now) {
    if (!c->missing || (c->missing == 1 && c->is_blocked)) die("a reply to nothing");
    if (--c->missing % c->replies) return;
    counts[bucket_of((now - c->begun) / 1000)]++;
    answered++;
    in_time += now < end;
    busy -= !c->missing;
}

static void on_bytes(struct connection *c) {
    char *data = input;
    memcpy(input, c->rest, c->rest_size);
    ssize_t came = get_bytes(c, input + c->rest_size, READ_BYTES);
    if (came < 0 && (errno == EAGAIN || errno == EINTR)) return;
    if (came <= 0) die("port %d: %s", c->target->port, came ? strerror(errno) : "it closed");
    size_t size = c->rest_size + came;
    uint64_t now = now_ns();
    bool was_busy = c->missing;
    size_t skipped = size < c->skip ? size : c->skip;
    data += skipped;
    size -= skipped;
    if (skipped && !(c->skip -= skipped)) on_reply(c, now);
    while (size) {
        bool is_reply = true;
        size_t whole = take_one(c, data, size, &is_reply);
        if (!whole) break;
        if (whole > size) c->skip = whole - size;
        data += whole > size ? size : whole;
        size -= whole > size ? size : whole;
        if (is_reply && !c->skip) on_reply(c, now);
    }
    if (size > REST_BYTES) die("a reply with a head of over %d bytes", REST_BYTES);
    memcpy(c->rest, data, c->rest_size = size);
    if (!was_busy || c->missing) return;
    if (is_churn) {
        close_connection(c);
        open_connection(c);
    }
    next(c, now);
}

/* --- the run -------------------------------------------------------------------------------- */

static void open_all(void) {
    size_t out_size = 0;
    poller = epoll_create1(0);
    for (struct target *t = targets; t < targets + target_count; t++) {
        size_t larger = t->read.size > t->write.size ? t->read.size : t->write.size;
        out_size = larger > out_size ? larger : out_size;
    }
    connections = allocate(connection_count * sizeof *connections);
    free_ones = allocate(connection_count * sizeof *free_ones);
    for (size_t place = 0; place < connection_count; place++) {
        struct connection *c = &connections[place];
        c->target = &targets[place % target_count];
        c->out = allocate(out_size * pipeline);
        c->rest = allocate(REST_BYTES);
        open_connection(c);
    }
}

static void turn(uint64_t now) {
    struct epoll_event events[EVENTS_MAX];
    int wait_ms = TURN_NS / 1000000;
    if (free_count && due < end && due < now + TURN_NS) {
        /* epoll rounds up to milliseconds, and a request sent late looks like a slow answer. */
        struct timespec left = {0, due > now ? due - now : 0};
        ppoll(&(struct pollfd){.fd = poller, .events = POLLIN}, 1, &left, NULL);
        wait_ms = 0;
    }
    int count = epoll_wait(poller, events, EVENTS_MAX, wait_ms);
    for (int place = 0; place < count; place++) {
        struct connection *c = events[place].data.ptr;
        if (events[place].events & EPOLLOUT) send_rest(c);
        if (events[place].events & ~EPOLLOUT) on_bytes(c);
        while (c->tls && SSL_pending(c->tls)) on_bytes(c); /* epoll knows nothing of those. */
    }
}

/* Batches that are due before the end and not sent. */
static uint64_t overdue(void) { return due < end ? (end - due + interval - 1) / interval : 0; }

static void print_seen(double ran) {
    printf("{\"seconds\":%.6f,\"requests\":%lu,\"in_time\":%lu,\"misses\":%lu,\"backlog\":%lu,",
           ran, answered, in_time, missed, backlog);
    printf("\"errors\":{");
    for (struct kind *each = kinds; each < kinds + KINDS_MAX && each->count; each++)
        printf("%s\"%s\":%lu", each == kinds ? "" : ",", each->name, each->count);
    printf("},\"histogram\":[");
    const char *between = "";
    for (int bucket = 0; bucket < BUCKETS; bucket++)
        if (counts[bucket]) {
            printf("%s[%lu,%lu]", between, middle_of(bucket), counts[bucket]);
            between = ",";
        }
    printf("]}\n");
}

static void run_plan(void) {
    uint64_t begun = now_ns(), now = begun, missing = 0;
    bool is_over = false;
    if (seconds) end = begun + (uint64_t)(seconds * SECOND);
    if (rate) due = begun + (interval = pipeline * SECOND / rate);
    for (size_t place = 0; place < connection_count; place++) next(&connections[place], begun);
    while (now < end + DRAIN_NS || end == UINT64_MAX) {
        start_due(now);
        if (now >= end && !is_over) backlog = overdue() * pipeline;
        is_over = now >= end;
        if (!busy && (!interval || (is_over && (!overdue() || now >= end + CATCH_UP_NS)))) break;
        turn(now);
        now = now_ns();
    }
    for (size_t place = 0; place < connection_count; place++)
        if (connections[place].missing)
            missing += (connections[place].missing - 1) / connections[place].replies + 1;
    if (missing) fail("no answer", "", missing);
    print_seen(((now < end ? now : end) - begun) / 1e9);
}

/* --- the plan ------------------------------------------------------------------------------- */

static char *bytes_of(const char *hexadecimal, size_t *size) {
    *size = strlen(hexadecimal) / 2;
    char *bytes = allocate(*size + 1);
    for (size_t at = 0; at < *size; at++) sscanf(hexadecimal + 2 * at, "%2hhx", &bytes[at]);
    return bytes;
}

static void add_part(struct template *t, const char *part) {
    static const int sizes[128] = {['K'] = KEY_DIGITS, ['B'] = KEY_DIGITS / 3 * 4, ['S'] = 4};
    bool is_hole = strchr("KBSV", *part);
    size_t size = *part == 'V' ? strtoul(part + 1, NULL, 10) : (size_t)sizes[(int)*part];
    char *bytes = is_hole ? NULL : bytes_of(part, &size);
    t->bytes = realloc(t->bytes, t->size + size);
    if (size && !t->bytes) die("no memory");
    if (bytes) memcpy(t->bytes + t->size, bytes, size);
    if (is_hole && t->hole_count == HOLES_MAX) die("a template with over %d holes", HOLES_MAX);
    if (is_hole) t->holes[t->hole_count++] = (struct hole){t->size, size, *part};
    t->size += size;
    free(bytes);
}

static void read_template(struct template *t) {
    char *part = strtok(NULL, " \n");
    t->replies = part ? atoi(part) : 0;
    while ((part = strtok(NULL, " \n"))) add_part(t, part);
}

static void read_keys(struct target *target) {
    target->keys = allocate(keys * sizeof *target->keys);
    for (char *number; (number = strtok(NULL, " \n"));)
        if (target->key_count < keys) target->keys[target->key_count++] = strtoul(number, NULL, 10);
    if (!target->key_count) die("port %d: no keys", target->port);
}

static const struct {
    const char *name, *format;
    void *number;
} numbers[] = {
    {"connections", "%zu", &connection_count}, {"pipeline", "%zu", &pipeline},
    {"in_order", "%zu", &in_order}, {"keys", "%zu", &keys},
    {"wait", "%ld", &wait_for_replicas}, {"reads", "%lf", &reads}, {"rate", "%lf", &rate},
    {"seconds", "%lf", &seconds}, {"tls", "%d", &is_tls}, {"churn", "%d", &is_churn},
};

static void read_line(const char *name) {
    struct target *target = &targets[target_count ? target_count - 1 : 0];
    if (!strcmp(name, "hello")) return read_template(&target->hello);
    if (!strcmp(name, "read")) return read_template(&target->read);
    if (!strcmp(name, "write")) return read_template(&target->write);
    if (!strcmp(name, "held")) return read_keys(target);
    const char *value = strtok(NULL, " \n");
    if (!value) die("%s: no value", name);
    for (size_t place = 0; place < sizeof numbers / sizeof *numbers; place++)
        if (!strcmp(name, numbers[place].name)) {
            if (sscanf(value, numbers[place].format, numbers[place].number) != 1) die("%s", value);
            return;
        }
    if (!strcmp(name, "target") && target_count < TARGETS_MAX)
        targets[target_count++].port = atoi(value);
    else if (!strcmp(name, "mark"))
        mark = bytes_of(value, &mark_size);
    else if (!strcmp(name, "framing"))
        take_one = !strcmp(value, "resp") ? take_resp
                   : !strcmp(value, "http") ? take_http : take_http2;
    else
        die("%s %s: unknown, or too many", name, value);
}

static void read_plan(const char *path) {
    FILE *file = fopen(path, "r");
    char *line = NULL, *name;
    size_t size = 0, value_size = 0;
    if (!file) die("%s: %s", path, strerror(errno));
    while (getline(&line, &size, file) > 0)
        if ((name = strtok(line, " \n"))) read_line(name);
    fclose(file);
    free(line);
    if (!target_count || !connection_count || !pipeline) die("nobody to ask");
    for (struct target *t = targets; t < targets + target_count; t++)
        for (struct hole *h = t->write.holes; h < t->write.holes + t->write.hole_count; h++)
            if (h->kind == 'V' && h->size > value_size) value_size = h->size;
    pool = allocate(POOL_BYTES + value_size);
    for (size_t at = 0; at < POOL_BYTES + value_size; at++) pool[at] = 'a' + random_below(26);
}

int main(int count, char **arguments) {
    struct rlimit files;
    if (count != 2) die("usage: generator PLAN");
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    signal(SIGPIPE, SIG_IGN);
    prctl(PR_SET_TIMERSLACK, 1);
    read_plan(arguments[1]);
    if (is_tls) {
        context = SSL_CTX_new(TLS_client_method());
        SSL_CTX_set_mode(context, SSL_MODE_ENABLE_PARTIAL_WRITE);
    }
    open_all();
    run_plan();
}
