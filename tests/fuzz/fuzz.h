/*
 * What every fuzz target is: one function that takes any bytes. libFuzzer calls it, or replay.c
 * with the files of a corpus. A property that does not hold ends the process, which both report.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define MUST(cond)                                                                                                     \
    do {                                                                                                               \
        if (!(cond)) {                                                                                                 \
            fprintf(stderr, "%s:%d: does not hold: %s\n", __FILE__, __LINE__, #cond);                                  \
            abort();                                                                                                   \
        }                                                                                                              \
    } while (0)

/* The input, taken from the front. Behind its end there are zeros. */
struct input {
    const uint8_t *at;
    size_t left;
};

__attribute__((unused)) static uint8_t input_u8(struct input *in)
{
    if (in->left == 0)
        return 0;
    in->left--;
    return *in->at++;
}

__attribute__((unused)) static uint16_t input_u16(struct input *in)
{
    uint8_t low = input_u8(in);
    return (uint16_t)(low | input_u8(in) << 8);
}

/* At most n bytes, fewer where fewer are left: *ret_n says how many. */
__attribute__((unused)) static const uint8_t *input_bytes(struct input *in, size_t n, size_t *ret_n)
{
    const uint8_t *p = in->at;
    *ret_n = n < in->left ? n : in->left;
    in->at += *ret_n;
    in->left -= *ret_n;
    return p;
}
