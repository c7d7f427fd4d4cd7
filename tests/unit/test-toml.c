#include "tap.h"

#include "host/toml.h"
#include "host/toml_date.h"
#include "host/toml_scan.h"

#include <errno.h>
#include <math.h>
#include <string.h>

static const struct toml_value *at(const struct toml_value *v, const char *path)
{
    char part[64];
    while (v && *path) {
        size_t n = strcspn(path, ".");
        snprintf(part, sizeof(part), "%.*s", (int)n, path);
        path += n + (path[n] == '.');
        if (v->type == TOML_ARRAY) {
            unsigned i = (unsigned)atoi(part);
            for (v = v->list.first; v && i; i--)
                v = v->next;
        } else {
            v = toml_find(v, part);
        }
    }
    return v;
}

static bool is_string(const char *text, const char *path, const char *want)
{
    struct mvm_error e = MVM_ERROR_INIT;
    CLEAN_TOML struct toml_value *t = NULL;
    if (toml_parse(text, strlen(text), &t, &e) < 0) {
        printf("# %s\n", e.msg);
        return false;
    }
    const struct toml_value *v = at(t, path);
    if (v && (v->type == TOML_STRING || v->type == TOML_DATETIME) && strcmp(v->string.text, want) == 0 &&
        v->string.len == strlen(want))
        return true;
    printf("# got: %s\n", v && v->type == TOML_STRING ? v->string.text : "something else");
    return false;
}

static bool is_integer(const char *text, const char *path, int64_t want)
{
    struct mvm_error e = MVM_ERROR_INIT;
    CLEAN_TOML struct toml_value *t = NULL;
    if (toml_parse(text, strlen(text), &t, &e) < 0)
        printf("# %s\n", e.msg);
    const struct toml_value *v = at(t, path);
    return v && v->type == TOML_INTEGER && v->integer == want;
}

static bool is_number(const char *text, double want)
{
    CLEAN_TOML struct toml_value *t = NULL;
    if (toml_parse(text, strlen(text), &t, NULL) < 0)
        return false;
    const struct toml_value *v = toml_find(t, "a");
    return v && v->type == TOML_FLOAT && (v->number == want || (isnan(want) && isnan(v->number)));
}

/* Refused, on that line, with a message that has these words. */
static bool refused(const char *text, unsigned line, const char *words)
{
    struct mvm_error e = MVM_ERROR_INIT;
    CLEAN_TOML struct toml_value *t = NULL;
    char start[32];
    snprintf(start, sizeof(start), "line %u: ", line);
    int r = toml_parse(text, strlen(text), &t, &e);
    if (r == -EINVAL && !t && strncmp(e.msg, start, strlen(start)) == 0 && strstr(e.msg, words))
        return true;
    printf("# %d: %s\n", r, e.msg);
    return false;
}

static void test_strings(void)
{
    ok(is_string("a = 'x\\ny' # c", "a", "x\\ny"), "a literal string");
    ok(is_string("a = \"\\b\\t\\n\\f\\r\\\"\\\\\\u00e9\\U0001F600\"", "a", "\b\t\n\f\r\"\\\xc3\xa9\xf0\x9f\x98\x80"),
       "every escape");
    ok(is_string("a = \"\"", "a", ""), "an empty string");
    ok(is_string("a = \"\"\"\nx\ny\"\"\"", "a", "x\ny"), "a long string without its first line end");
    ok(is_string("a = \"\"\"x \\  \n\r\n   y\"\"\"", "a", "x y"), "a backslash joins lines");
    ok(is_string("a = \"\"\"\"\"x\"\"\"\"\"", "a", "\"\"x\"\""), "quotes beside the quotes");
    ok(is_string("a = \"\"\"x\"\"y\"\"\"", "a", "x\"\"y"), "quotes within");
    ok(is_string("a = '''\nx\\\n'y'''''", "a", "x\\\n'y''"), "a long literal string");
    CLEAN_TOML struct toml_value *t = NULL;
    static const char nul[] = "a = \"x\\u0000y\"";
    ok(toml_parse(nul, strlen(nul), &t, NULL) == 0 && t->list.first->string.len == 3, "an escaped NUL is text");
    ok(refused("\n\na = \"x", 3, "closing quote"), "a string that does not end");
    ok(refused("a = \"x\ny\"", 1, "closing quote"), "a line end in a string");
    ok(refused("\na = \"\"\"\n\n\nx", 2, "closing quotes"), "a long string that does not end: where it began");
    ok(refused("a = \"\\x\"", 1, "escape"), "an unknown escape");
    ok(refused("a = \"\\ud800\"", 1, "U+D800"), "half a surrogate pair");
    ok(refused("a = \"\\U00110000\"", 1, "no character"), "beyond Unicode");
    ok(refused("a = \"\\u12\"", 1, "4 hexadecimal"), "an escape too short");
    ok(refused("a = \"\x01\"", 1, "control character 0x01"), "a control character");
    ok(refused("# \x7f", 1, "control character"), "in a comment, too");
    ok(refused("a = 1\rb = 2", 1, "control character 0x0d"), "a lone carriage return");
    ok(refused("a = 1\nb = '\xc0\x80'", 2, "UTF-8"), "an overlong sequence");
    ok(refused("a = '\xed\xa0\x80'", 1, "UTF-8"), "an encoded surrogate");
    ok(refused("a = '\xf4\x90\x80\x80'", 1, "UTF-8"), "beyond U+10FFFF");
    ok(refused("a = '\xe2\x82", 1, "UTF-8"), "a cut sequence");
}

static void test_numbers(void)
{
    static const struct {
        const char *text;
        int64_t value;
    } integers[] = {
        {"a=0", 0},
        {"a=-0", 0},
        {"a=+99", 99},
        {"a=1_000", 1000},
        {"a=0xdead_BEEF", 0xdeadbeef},
        {"a=0o755", 0755},
        {"a=0b1101", 13},
        {"a=9223372036854775807", INT64_MAX},
        {"a=-9223372036854775808", INT64_MIN},
    };
    for (size_t i = 0; i < ARRAY_SIZE(integers); i++)
        ok(is_integer(integers[i].text, "a", integers[i].value), "integer %s", integers[i].text);
    ok(is_number("a=1.5", 1.5) && is_number("a=-2e3", -2000) && is_number("a=1_0.2_5E-1", 1.025) &&
           is_number("a=0e0", 0),
       "floats");
    ok(is_number("a=inf", INFINITY) && is_number("a=-inf", -INFINITY) && is_number("a=+nan", NAN), "inf and nan");
    static const char *const bad[] = {"01",  "+-1",  "1__0",  "_1",  "1_",   "0x",  "0x_1",  "0b2", "+0x1",
                                      "1.",  ".5",   "1.e2",  "1e",  "1._5", "0_0", "-01.5", "tru", "True",
                                      "yes", "infi", "1e5.5", "0o8", "-",    "1 2", "1#\n2"};
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        char text[32];
        snprintf(text, sizeof(text), "a = %s", bad[i]);
        CLEAN_TOML struct toml_value *t = NULL;
        ok(toml_parse(text, strlen(text), &t, NULL) == -EINVAL, "no value: %.*s", (int)strcspn(bad[i], "\n"), bad[i]);
    }
    ok(refused("a=9223372036854775808", 1, "64 bits") && refused("a=0xffffffffffffffff", 1, "64 bits"),
       "integers too large");
}

static void test_datetimes(void)
{
    static const char *const good[] = {"1979-05-27T07:32:00Z",
                                       "1979-05-27 00:32:00.999-07:00",
                                       "2000-02-29",
                                       "1979-05-27t07:32:60",
                                       "07:32:00",
                                       "00:32:00.5"};
    static const char *const bad[] = {
        "1979-13-01", "1900-02-29",        "2001-04-31",           "24:00:00",        "07:60:00",
        "07:32",      "1979-05-27T07:32Z", "1979-05-27T07:32:00.", "1979-05-27T7:32", "1979-05-27T07:32:00+24:00",
        "07:32:00Z",  "1979-5-27"};
    for (size_t i = 0; i < ARRAY_SIZE(good); i++) {
        char text[64];
        snprintf(text, sizeof(text), "a = [%s] # c", good[i]);
        ok(is_string(text, "a.0", good[i]), "date or time %s", good[i]);
    }
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        char text[64];
        snprintf(text, sizeof(text), "a = %s", bad[i]);
        ok(refused(text, 1, ""), "no date or time: %s", bad[i]);
    }
    ok(is_string("a = 1979-05-27 # c", "a", "1979-05-27"), "a blank behind a date is no time");
}

static void test_tables(void)
{
    ok(is_integer("a.b . \"c d\" = 1", "a.b.c d", 1), "dotted and quoted keys");
    ok(is_integer("[a]\nb.c = 1\nb.d = 2\n[a.b.e]\nx = 3", "a.b.e.x", 3), "a header adds to a dotted table");
    ok(is_integer("[a.b]\nx=1\n[a]\ny=2", "a.y", 2), "a table after its child");
    ok(is_integer("[[a]]\nx=1\n[[a]]\n[a.b]\nx=2\n[[a.c]]\nx=3", "a.1.c.0.x", 3), "arrays of tables");
    ok(is_integer("a = { b = { c = [ 1, { d = 2 } ] }, e.f = 3 }", "a.b.c.1.d", 2), "inline tables");
    ok(is_integer("a = [ # c\n 1,\n\n 2, # d\n]\r\nb = 3", "b", 3), "an array over lines");
    ok(is_integer("3.1 = 4", "3.1", 4), "keys of digits");
    ok(is_integer("\"\" = 1\n'x' = 2", "x", 2), "an empty key");
    static const char *const valid[] = {"", "\n# c\n", "a={}", "a=[]", "a=[[],[]]", "[ a . b ]", "[a]\n[b]\n[a.c]"};
    for (size_t i = 0; i < ARRAY_SIZE(valid); i++) {
        CLEAN_TOML struct toml_value *t = NULL;
        ok(toml_parse(valid[i], strlen(valid[i]), &t, NULL) == 0, "valid: %zu", i);
    }
    static const struct {
        const char *text;
        unsigned line;
        const char *words;
    } bad[] = {
        {"a=1\na=2", 2, "defined already, on line 1"},
        {"a=1\n\"a\"=2", 2, "defined already"},
        {"[a]\n[b]\n[a]", 3, "'a' is defined already, on line 1"},
        {"a=1\n[a]", 2, "defined already"},
        {"a=1\n[a.b]", 2, "defined already"},
        {"a={}\n[a.b]", 2, "defined already"},
        {"a={x.y=1}\n[a.x]", 2, "defined already"},
        {"a={}\na.b=1", 2, "defined already"},
        {"a={b={}, b.c=1}", 1, "defined already"},
        {"a={b=1, b=2}", 1, "defined already"},
        {"a=[]\n[[a]]", 2, "defined already"},
        {"a=[{}]\n[a.b]", 2, "defined already"},
        {"[[a]]\n[a]", 2, "defined already"},
        {"[a]\n[[a]]", 2, "defined already"},
        {"[a.b]\n[[a]]", 2, "defined already"},
        {"a.b=1\n[a]", 2, "defined already"},
        {"[a]\nb.c=1\n[a.b]", 3, "defined already"},
        {"[a.b.c]\nz=9\n[a]\nb.c.t=1", 4, "defined already"},
        {"[a.b]\n[a]\nb.c=1", 3, "defined already"},
        {"a.b=1\na.b.c=2", 2, "defined already"},
        {"[[a]]\n[x]\n[[a.b]]\n[a]\nb=1", 4, "defined already"},
        {"a = 1 b = 2", 1, "where the line should end"},
        {"[a] b", 1, "where the line should end"},
        {"[a", 1, "']'"},
        {"[[a]", 1, "']]'"},
        {"[]", 1, "a key is missing"},
        {"[a..b]", 1, "a key is missing"},
        {"= 1", 1, "a key is missing"},
        {"a", 1, "'='"},
        {"a =", 1, "a value is missing"},
        {"a = \nb = 1", 1, "a value is missing"},
        {"\"\"\"a\"\"\" = 1", 1, ""},
        {"a = [1 2]", 1, "an array lacks"},
        {"a = [1,\n2", 2, "an array lacks"},
        {"a = [1,,2]", 1, "a value is missing"},
        {"a = {b=1,}", 1, "a key is missing"},
        {"a = {b=1\n}", 1, "an inline table lacks"},
        {"a = {b=1 c=2}", 1, "an inline table lacks"},
        {"\"a\\u0000b\" = 1", 1, "NUL"},
    };
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
        ok(refused(bad[i].text, bad[i].line, bad[i].words), "refused: %zu (%.20s)", i, bad[i].words);
}

static void test_limits(void)
{
    struct mvm_error e = MVM_ERROR_INIT;
    CLEAN_TOML struct toml_value *t = NULL;
    char deep[4096] = "a = ";
    memset(deep + 4, '[', 2000);
    ok(refused(deep, 1, "levels"), "arrays too deep");
    memset(deep, 0, sizeof(deep));
    for (size_t i = 0; i < 100; i++)
        strcat(deep, i ? ".a" : "a");
    strcat(deep, " = 1");
    ok(refused(deep, 1, "levels"), "keys too deep");
    CLEAN_FREE char *large = calloc(1, TOML_MAX_SIZE + 2);
    memset(large, '#', TOML_MAX_SIZE + 1);
    ok(toml_parse(large, TOML_MAX_SIZE, &t, &e) == 0, "a file as large as may be");
    toml_free(TAKE_PTR(t));
    ok(toml_parse(large, TOML_MAX_SIZE + 1, &t, &e) == -EMSGSIZE && !t, "one too large");
    memcpy(large, "a=[", 3);
    for (size_t i = 3; i + 1 < TOML_MAX_SIZE; i += 2)
        memcpy(large + i, "1,", 2);
    ok(toml_parse(large, TOML_MAX_SIZE, &t, &e) == -EMSGSIZE && !t, "too many values");
    ok(toml_parse("a=1\0b", 5, &t, &e) == -EINVAL && strstr(e.msg, "NUL"), "a NUL in the text");
    ok(toml_parse("a=1\n\n[b]\nc=2\nc2=3", 17, &t, &e) == 0 && at(t, "b.c2")->line == 5 && at(t, "b")->line == 3,
       "every key knows its line");
}

/* ---- Words, before trees are made of them ---- */

static void test_scan_lines(void)
{
    struct mvm_error e = MVM_ERROR_INIT;
    struct toml_scan s = {.at = " \t# a = 1\r\n\n  # [b]\n  c", .line = 1, .err = &e};
    toml_skip_lines(&s);
    ok(strcmp(s.at, "c") == 0 && s.line == 4,
       "blanks, comments and line ends of both kinds are counted and passed over");
    ok(toml_end_line(&s) == -EINVAL && strstr(e.msg, "line 4: unexpected 'c'"),
       "what follows a value on its line is named");
    s = (struct toml_scan){.at = " # c", .line = 7, .err = &e};
    ok(toml_end_line(&s) == 0 && *s.at == '\0' && s.line == 7, "the text's end ends its last line");
    s = (struct toml_scan){.at = "\xc3\xa9", .line = 1, .err = &e};
    ok(toml_end_line(&s) == -EINVAL && strstr(e.msg, "'\xc3\xa9'"), "a character of two bytes is named whole");
}

static void test_scan_text(void)
{
    static const char *const bad[] = {"a\x80",    "\xc0\x80",     "\xed\xa0\x80", "\xf4\x90\x80\x80",
                                      "\xe2\x82", "\xf0\x9f\x98", "\xff",         "a\rb",
                                      "a\x01",    "a\x7f",        "\xc3"};
    struct mvm_error e = MVM_ERROR_INIT;
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        struct toml_scan s = {.at = bad[i], .line = 1, .err = &e};
        ok(toml_check_text(&s) == -EINVAL, "text %zu that is no UTF-8, or has a control character, is refused", i);
    }
    struct toml_scan s = {.at = "a\n\n\x02", .line = 1, .err = &e};
    ok(toml_check_text(&s) == -EINVAL && strstr(e.msg, "line 3: control character 0x02") && s.line == 1,
       "its line is told, and the reader stays where it was");
    s = (struct toml_scan){.at = "\t\r\n\xc3\xa9\xf0\x9f\x98\x80\xf4\x8f\xbf\xbf", .line = 1, .err = &e};
    ok(toml_check_text(&s) == 0, "characters of up to four bytes are text");
}

static void test_scan_keys(void)
{
    struct mvm_error e = MVM_ERROR_INIT;
    struct toml_scan s = {.at = " a-1 . \"b.c\" .'' = 1", .line = 1, .err = &e};
    CLEAN_FREE char *a = NULL;
    CLEAN_FREE char *b = NULL;
    CLEAN_FREE char *c = NULL;
    bool last[3];
    ok(toml_scan_key(&s, &a, &last[0]) == 0 && toml_scan_key(&s, &b, &last[1]) == 0 &&
           toml_scan_key(&s, &c, &last[2]) == 0 && strcmp(a, "a-1") == 0 && strcmp(b, "b.c") == 0 && !*c && !last[0] &&
           !last[1] && last[2] && *s.at == '=',
       "the parts of a dotted key, bare or quoted, and the blanks around them");
    static const char *const bad[] = {"= 1", ".a", "\"a\nb\"", "\"a", "\"\"\"a\"\"\"", "\"a\\u0000b\"", "\"\\q\""};
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        CLEAN_FREE char *key = NULL;
        bool is_last;
        s = (struct toml_scan){.at = bad[i], .line = 1, .err = &e};
        /* Three quotes are an empty key with a string behind it, which the line's reader refuses. */
        bool refused_later = strncmp(bad[i], "\"\"\"", 3) == 0;
        ok((toml_scan_key(&s, &key, &is_last) == -EINVAL) != refused_later && !(key && *key), "no key: %s", bad[i]);
    }
}

static void test_date_lengths(void)
{
    static const struct {
        const char *text;
        size_t length;
    } dates[] = {{"2024-02-29", 10},
                 {"2024-02-29 # leap", 10},
                 {"2024-02-29 12:00:00", 19},
                 {"2024-02-29 1", 10},
                 {"2024-02-29t12:00:00z,", 20},
                 {"2024-02-29T12:00:00.25+23:59]", 28},
                 {"23:59:60", 8},
                 {"07:00:00.000001}", 15},
                 {"2023-02-29", 0},
                 {"1900-02-29", 0},
                 {"2000-02-29", 10},
                 {"2024-13-01", 0},
                 {"2024-00-01", 0},
                 {"2024-01-32", 0},
                 {"2024-01-01x", 0},
                 {"2024-01-01T", 0},
                 {"2024-01-01T24:00:00", 0},
                 {"2024-01-01T12:00:00+24:00", 0},
                 {"24:00:00", 0},
                 {"12:60:00", 0},
                 {"12:00", 0},
                 {"12:00:00.", 0},
                 {"2024-1-1", 0}};
    for (size_t i = 0; i < ARRAY_SIZE(dates); i++)
        ok(toml_date_length(dates[i].text) == dates[i].length, "%zu characters of '%s' are a date or time",
           dates[i].length, dates[i].text);
}

int main(void)
{
    test_date_lengths();
    test_scan_lines();
    test_scan_text();
    test_scan_keys();
    test_strings();
    test_numbers();
    test_datetimes();
    test_tables();
    test_limits();
    return tap_end();
}
