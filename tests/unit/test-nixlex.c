/* Words of Nix's language (flake/nixlex.h), held against what Nix's own lexer makes of them. */
#include "tap.h"

#include "flake/nixlex.h"

#include <string.h>

/* The tokens of a text up to where it ends or is not understood, a letter for each. */
static const char *tokens(const char *text)
{
    static const char names[] = {
        [NIX_NAME] = 'n',   [NIX_STRING] = 's',    [NIX_OPEN] = '(',  [NIX_CLOSE] = ')',   [NIX_DOT] = '.',
        [NIX_EQUALS] = '=', [NIX_SEMICOLON] = ';', [NIX_OTHER] = 'o', [NIX_TOO_DEEP] = 'D'};
    static char out[256];
    CLEAN_NIXLEX struct nixlex l = NIXLEX_INIT(text);
    size_t n = 0;
    for (enum nix_token t; n + 1 < sizeof(out) && (t = nixlex_next(&l)) != NIX_END && t != NIX_TOO_DEEP;)
        out[n++] = names[t];
    out[n] = '\0';
    return out;
}

static void lexes(const char *text, const char *want, const char *what)
{
    const char *got = tokens(text);
    ok(strcmp(got, want) == 0, "%s (%s)", what, got);
}

static void test_words(void)
{
    lexes("", "", "an empty text has no words");
    lexes(" \t\r\n# comment", "", "a comment ends with the text");
    lexes("/* a */ x /* b\n*/ = # c\r\n 1;", "n=o;", "comments of both kinds are no words");
    lexes("x /* no end", "n", "a comment without end is the end");
    lexes("/**/x", "n", "the shortest comment ends where it begins");
    lexes("inputs.nixpkgs.url = \"x\";", "n.n.n=s;", "a path of attributes is names and dots");
    lexes("a-b' _c x1", "nnn", "names have hyphens, quotes and digits in them");
    lexes("a == b != c <= d >= e // f", "nononononon", "operators of two characters are one word");
    lexes("{ a, ... }:", "(noo)o", "a function's set has three dots as one word");
}

static void test_brackets(void)
{
    lexes("{ a = [ 1 ( b ) ]; }", "(n=(o(n));)", "brackets open and close");
    lexes("{ a ] b", "(n", "a bracket that closes another kind is the end");
    lexes(") a", "", "a bracket that was never opened is the end");
    lexes("${a}.b", "(n).n", "an attribute's name may be evaluated");
}

/* The text of the only string. */
static void reads(const char *text, const char *want, const char *what)
{
    CLEAN_NIXLEX struct nixlex l = NIXLEX_INIT(text);
    enum nix_token t = nixlex_next(&l);
    ok(t == NIX_STRING && strcmp(buf_cstr(&l.text), want) == 0, "%s (%s)", what, buf_cstr(&l.text));
}

static void test_strings(void)
{
    reads("\"\"", "", "an empty string");
    reads("\"a\\n\\t\\r\\\"\\\\\\x\\${b}\"", "a\n\t\r\"\\x${b}", "a backslash takes the meaning of the next character");
    reads("\"$a $${b} $\"", "$a $${b} $", "a dollar alone, and one behind another, evaluates nothing");
    reads("''a''", "a", "a string in two quotes");
    reads("''\n  a\n  ''", "a", "an indented string is used without what is around its line");
    reads("'' '''x ''${y} ''\\n z''", "''x ${y} \n z", "an indented string has escapes of its own");
    reads("https://a.b/c?d=e&f", "https://a.b/c?d=e&f", "a URL needs no quotes");
    reads("github:a/b", "github:a/b", "a reference needs no quotes");
    lexes("\"no end", "", "a string without end is the end");
    lexes("\"no end\\", "", "a backslash at the end of the text escapes nothing");
    lexes("'' no end '", "", "an indented string without end is the end");
    lexes("''x ''\\", "so", "an indented string ends where nothing is left to escape");
    lexes("\"a${b}c${d}e\" f", "(non)n", "a string with parts that are evaluated is a bracket around them");
}

static void test_paths(void)
{
    lexes("./a ../b /c a/b", "oooo", "paths are words of their own, no names and dots");
    lexes("<nixpkgs>", "ono", "a looked-up path is no string");
    lexes("x: y", "non", "a function of x is no URL");
    lexes("x:y", "s", "but without a space it is one, as Nix has it");
}

static void test_limits(void)
{
    char deep[NIX_MAX_DEPTH + 3];
    memset(deep, '[', sizeof(deep) - 1);
    deep[sizeof(deep) - 1] = '\0';
    CLEAN_NIXLEX struct nixlex l = NIXLEX_INIT(deep);
    unsigned opened = 0;
    enum nix_token t;
    while ((t = nixlex_next(&l)) == NIX_OPEN)
        opened++;
    ok(t == NIX_TOO_DEEP && opened == NIX_MAX_DEPTH, "brackets nest %d deep and no deeper", NIX_MAX_DEPTH);
    CLEAN_FREE char *nested = calloc(1, 8 * (NIX_MAX_DEPTH + 2));
    for (unsigned i = 0; i <= NIX_MAX_DEPTH; i++)
        strcat(nested, "\"${");
    CLEAN_NIXLEX struct nixlex s = NIXLEX_INIT(nested);
    while ((t = nixlex_next(&s)) == NIX_OPEN)
        ;
    ok(t == NIX_TOO_DEEP, "strings in strings nest no deeper either");

    const size_t size = 100000;
    CLEAN_FREE char *large = malloc(size);
    memset(large, 'x', size);
    memcpy(large + size - 3, " a", 3);
    CLEAN_NIXLEX struct nixlex n = NIXLEX_INIT(large);
    ok(nixlex_next(&n) == NIX_NAME && n.text.len <= n.text.max && nixlex_next(&n) == NIX_NAME &&
           strcmp(buf_cstr(&n.text), "a") == 0 && nixlex_next(&n) == NIX_END,
       "a name longer than any path does not disturb the next one");
    ok(nixlex_next(&n) == NIX_END, "behind the end the end stays");
}

/* Whatever the bytes: the lexer moves on with each word, and comes to an end. */
static void test_garbage(void)
{
    unsigned seed = 1, stuck = 0;
    static const char pieces[] = "{}()[]\"'$\\#/*.=;:ax1 \n\x80";
    for (unsigned round = 0; round < tap_rounds(2000, 200000); round++) {
        char text[64];
        size_t n = (size_t)rand_r(&seed) % (sizeof(text) - 1);
        for (size_t i = 0; i < n; i++)
            text[i] = pieces[(size_t)rand_r(&seed) % (sizeof(pieces) - 1)];
        text[n] = '\0';
        CLEAN_NIXLEX struct nixlex l = NIXLEX_INIT(text);
        for (const char *before = NULL; nixlex_next(&l) != NIX_END; before = l.at)
            if (l.at == before || l.at > text + n) {
                stuck++;
                break;
            }
    }
    ok(stuck == 0, "whatever the bytes, each word moves on and none goes beyond the end (%u did not)", stuck);
}

int main(void)
{
    test_words();
    test_brackets();
    test_strings();
    test_paths();
    test_limits();
    test_garbage();
    return tap_end();
}
