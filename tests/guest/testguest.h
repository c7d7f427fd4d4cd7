/*
 * The test guest: a kernel of ours that serves the channel's protocol (docs/protocol.md) as mvm-init does, for tests of
 * what is on the host's side of it. It boots in milliseconds, because there is nothing in it: one processor in ring 0,
 * general registers only, no user space, files in memory. What its programs do is in shell.c's table.
 *
 *   boot.S     the ways in, interrupts          machine.c  serial line, clock, interrupt controllers, the end
 *   libc.c     what src/wire wants of libc      virtio.c   virtio devices and their queues
 *   pci.c      virtio devices on a PCI bus
 *   console.c, vsock.c, port.c  the way to the host
 *   agent.c    the protocol, the main loop
 *   job.c      what serves a stream             shell.c    programs      files.c  files, copies in and out
 */
#pragma once

#include "wire/msg.h"
#include "wire/mux.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* ---- machine.c ---- */

#define TICK_MS 10

#define VECTOR_DEVICE 0x20 /* of the interrupt by which a device wakes machine_idle() */

extern volatile uint64_t ticks; /* of the timer, while it runs */
extern uint64_t acpi_rsdp;      /* where ACPI's tables begin; 0: the VMM did not say */

/* What the VMM has given: the kernel's command line, and memory from heap_begin to heap_end. */
extern char cmdline[4096];

void machine_begin(const void *pvh, const void *zero_page);
/* The number behind NAME= on the command line, 0 where it is not there. */
uint64_t cmdline_number(const char *name);
void say(const char *fmt, ...) MVM_PRINTF(1, 2);
/* Interrupts of that line wake machine_idle(). */
void machine_listen(unsigned irq);
void machine_timer(bool on);
/* Waits for an interrupt, unless `ready` says that there is something to do. */
void machine_idle(bool (*ready)(void));
/* How long the processor has run, and what time it is. */
uint64_t uptime_ms(void);
uint64_t wall_clock_ns(void);
void set_wall_clock(uint64_t ns);
/* Ends the VM, which knows no other way to (-no-reboot). */
void machine_reset(void) __attribute__((noreturn));
/* No interrupt comes any more. */
void machine_halt(void) __attribute__((noreturn));

/* ---- libc.c ---- */

void heap_begin(uintptr_t from, uintptr_t to);
/* Pages that are never freed, zeroed. */
void *pages(size_t bytes);

/* ---- virtio.c ---- */

#define QUEUE_SIZE 16

/* A device over MMIO has its registers in one place, one on a PCI bus in several. */
struct virtio {
    uint8_t *mmio;                     /* NULL: on a PCI bus */
    uint8_t *common, *notify, *config; /* there: Virtio 1.1, 4.1.4 */
    uint32_t notify_step;
};

struct queue {
    const struct virtio *device;
    volatile uint16_t *doorbell; /* on a PCI bus */
    unsigned index;
    size_t buffer_size;
    uint8_t *buffers; /* QUEUE_SIZE of them */
    volatile uint8_t *ring;
    volatile uint16_t *avail, *used;
    uint16_t added, seen;
};

/* The device of that kind, named on the command line or else found on the PCI bus, reset and with these features (of
 * the first 32) accepted; its interrupts wake machine_idle(). */
bool virtio_find(struct virtio *v, unsigned device, uint32_t features);
uint32_t virtio_config(const struct virtio *v, unsigned offset);
void virtio_queue(struct queue *q, const struct virtio *v, unsigned index, size_t buffer_size);
void virtio_begin(const struct virtio *v);
/* The interrupt has been noticed: the next one will be another. */
void virtio_acknowledge(const struct virtio *v);
/* Gives buffer i to the device, for n bytes that it writes (in) or reads. */
void queue_give(struct queue *q, unsigned i, size_t n, bool in);
void queue_kick(struct queue *q);
/* The next buffer that the device has given back, -1 where there is none; and whether there is one. */
int queue_take(struct queue *q, size_t *ret_n);
bool queue_has(const struct queue *q);

/* ---- pci.c ---- */

/* Where the device of that kind has its registers, its interrupts as messages to VECTOR_DEVICE. */
bool pci_find_virtio(struct virtio *v, unsigned device);

/* ---- console.c ---- */

/* Finds the port of that name. */
bool console_begin(const char *name);
/* Passes on what came; true where something did. */
bool console_input(void (*take)(const void *p, size_t n));
/* Takes up to n bytes; how many. */
size_t console_output(const void *p, size_t n);
/* All that was taken has gone. */
bool console_is_empty(void);
/* An interrupt may come: what has happened until now is in the queues. */
bool console_has_news(void);

/* ---- vsock.c ---- */

/* The same over a virtio socket to a port of the host's. */
bool vsock_begin(void);
bool vsock_input(void (*take)(const void *p, size_t n));
bool vsock_was_reset(void);
size_t vsock_output(const void *p, size_t n);
bool vsock_is_empty(void);
bool vsock_has_news(void);

/* ---- port.c: what of them there is ---- */

bool port_begin(void);
bool port_input(void (*take)(const void *p, size_t n));
/* The connection was lost, and is made anew: nothing of the last one counts. */
bool port_was_reset(void);
size_t port_output(const void *p, size_t n);
bool port_is_empty(void);
bool port_has_news(void);

/* ---- agent.c ---- */

extern struct mux *channel;
extern char hostname[65];
extern uint64_t seed;            /* of the configuration, digested */
void agent_end(enum ending how); /* once every program has ended */

/* ---- job.c ---- */

#define LATER (-1) /* it waits: for input, room or time */

struct job {
    struct job *next;
    uint32_t stream; /* 0: nobody listens */
    uint8_t type;    /* of its request */
    int (*run)(struct job *j);
    /* Of a program. */
    struct msg_exec exec;
    const char *rest; /* of its script */
    unsigned before;  /* the operator before it */
    int status;       /* of the last command */
    struct msg_strings argv;
    struct file *to; /* where its output goes, NULL: to the stream ... */
    uint8_t channel; /* ... on this channel */
    uint64_t at;     /* for the program itself; 0 when it begins */
    /* Of a copy. */
    struct msg_transfer transfer;
    struct file *file;
    uint64_t left;  /* of a flood; the window of a connection */
    bool datagrams; /* it is one of UDP */
    /* Common. */
    struct buf in;
    bool in_ended, done;
    struct msg_exit exit;
};

int jobs_open(void *data, uint32_t stream, const void *p, size_t n);
int jobs_record(void *data, uint32_t stream, uint8_t channel, const void *p, size_t n);
void jobs_closed(void *data, uint32_t stream);
void jobs_reset(void *data, uint32_t stream, const char *reason);
/* Each goes on as far as it can; true where one did. waiting: time is to pass, even where no job wants it. */
bool jobs_run(bool waiting);
bool jobs_busy(void);
const struct job *jobs_first(void);
/* Nobody listens any more. */
void jobs_orphan(void);
/* A job that runs this command behind the back of another. */
void job_spawn(const struct msg_strings *argv, struct file *to);
/* Takes n bytes of what came. */
void job_take(struct job *j, size_t n);
/* Whether n bytes (at most FRAME_MAX_PAYLOAD) went to where its output goes. */
bool job_write(struct job *j, const void *p, size_t n);
/* Whether the clock has come there; else it ticks on. */
bool job_wait(uint64_t until);
void job_problem(struct job *j, const char *fmt, ...) MVM_PRINTF(2, 3);

/* ---- shell.c ---- */

int shell_begin(struct job *j);
int shell_run(struct job *j);
void shell_done(struct job *j);

/* ---- files.c ---- */

struct file {
    struct file *next;
    char *path;
    bool folder;
    unsigned mode;
    struct buf data;
};

void files_begin(void);
struct file *file_find(const char *path);
/* Makes an empty one in the place of what is there; NULL without memory. */
struct file *file_make(const char *path, unsigned mode, bool folder);
void file_remove(struct file *f);
struct file *file_first(void);
int push_run(struct job *j);
void push_record(struct job *j, uint8_t chan, const void *p, size_t n);
int pull_run(struct job *j);
