/* The accelerators that there are, by number. */
#pragma once

enum accel { ACCEL_EMULATION, ACCEL_KVM, ACCELS };

const char *accel_name(enum accel a);
/* ACCELS where the text names none. */
enum accel accel_parse(const char *name);
