/*
 * What mvmctl (jail.c) tells the program inside (inside.c): a file of records, each a key and a value that end in NUL,
 * and the words that the two exchange over a SOCK_SEQPACKET pair. Both are of one build.
 *
 *   ro PATH  rw PATH      may be read (a folder: and executed) or read and written below
 *   fd-ro N  fd-rw N      the same for the file behind a descriptor
 *   fd-own N              all may be done in the folder behind a descriptor
 *   keep N                a descriptor that stays open; 0, 1, 2 do anyway
 *   fsize N  nofile N     limits
 *   adopt -               bubblewrap's own process goes away first
 *   require -             confine = "required"
 *   network -             a network process: its list of system calls, not a VMM's
 *   sockets -             a VMM that makes its own sockets: the list for that
 *   exec PATH  env V  arg V
 */
#pragma once

#include <stdint.h>

#define JAIL_PLAN_MAX (512 * 1024)

enum jail_word_kind {
    JAIL_HERE = 1, /* inside: this is my process; it waits for JAIL_GO */
    JAIL_GO,       /* mvmctl: you are my child now */
    JAIL_CONFINED, /* inside: about to execute the VMM under what is in force; the end of the socket says that it runs
                    */
    JAIL_FAILED,   /* inside: error (errno), step */
};

struct jail_word {
    int32_t kind;
    int32_t error;    /* JAIL_FAILED: errno */
    int32_t landlock; /* ABI in force, 0: none */
    int32_t seccomp;  /* 1: in force */
    char step[32];    /* JAIL_FAILED: what failed */
};
