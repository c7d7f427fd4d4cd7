/*
 * Text that others wrote (a guest, Nix, a file, a server) before it is printed. A terminal obeys control characters,
 * and it reads U+0080 to U+009F as such in their UTF-8 form, too; bidirectional overrides show a text in another order
 * than it has. All of these, and bytes that are no UTF-8, are replaced by question marks. Whatever mvm prints passes
 * here; only the output of exec is the program's own, byte by byte.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define TEXT_INVALID UINT32_MAX

/* The character at s, TEXT_INVALID for a byte that begins none in the len bytes (at least 1). Returns its bytes. */
size_t text_next(const char *s, size_t len, uint32_t *ret_char);

/* Whether a terminal shows this character instead of obeying it. */
bool text_is_printable(uint32_t c);

/* Replaces in place what must not be printed; line breaks and tabs stay where lines is true (a CR that ends a line
 * is left out), else they become blanks. Returns the new length, which is never more. */
size_t text_clean(char *text, size_t len, bool lines);

/* The same for a string that becomes one line. */
void text_one_line(char *s);

/* How many of a text's len bytes are left where at most max fit and no character shall be cut. */
size_t text_cut(const char *s, size_t len, size_t max);

/* Takes the escape sequences out of a string that are for colors and the like ("\033[31m"): they say nothing. */
void text_drop_colors(char *s);
