/* Statistics, words, configuration files, the page: what bench has that needs no VM. */
#include "tap.h"

#include "base/fd.h"
#include "base/path.h"
#include "bench/density.h"
#include "bench/hostfacts.h"
#include "bench/report.h"
#include "bench/shell_split.h"
#include "machine/instruction_count.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char top[256];
static int folder = -1;
static struct home home = HOME_INIT;

static void fill(struct samples *s, const double *v, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (samples_add(s, v[i]) < 0)
            abort();
}

static bool near(double a, double b)
{
    return fabs(a - b) < 1e-9;
}

/* ---- Statistics ---- */

static void test_percentiles(void)
{
    struct samples s = {0};
    ok(near(samples_percentile(&s, 50), 0), "of nothing: 0");
    fill(&s, (const double[]){7}, 1);
    ok(near(samples_percentile(&s, 0), 7) && near(samples_percentile(&s, 99), 7), "of one: that");
    fill(&s, (const double[]){1, 5, 3}, 3);
    ok(near(samples_percentile(&s, 50), 4), "of an even number: between the middle two");
    ok(near(samples_percentile(&s, 0), 1) && near(samples_percentile(&s, 100), 7), "the extremes");
    ok(near(samples_percentile(&s, 90), 6.4), "between the nearest ranks");
    ok(near(s.v[0], 7) && near(s.v[3], 3), "the order they came in is kept");
    samples_done(&s);
    for (int i = 1; i <= 1000; i++)
        if (samples_add(&s, i) < 0)
            abort();
    ok(near(samples_percentile(&s, 99), 990.01), "of a thousand");
    samples_done(&s);
}

static void test_ratio(void)
{
    struct samples a = {0}, b = {0}, zero = {0};
    struct ratio r, again;
    ok(samples_ratio(&a, &b, &r) == -EINVAL, "no ratio of nothing");
    fill(&a, (const double[]){20, 21, 19, 22, 20, 18, 20, 21, 23, 20}, 10);
    fill(&b, (const double[]){10, 11, 9, 10, 10, 12, 10, 9, 11, 10}, 10);
    fill(&zero, (const double[]){0}, 1);
    ok(samples_ratio(&a, &zero, &r) == -EINVAL, "no ratio to nothing");
    ok(samples_ratio(&a, &b, &r) == 0 && near(r.ratio, 2), "the ratio of the medians");
    ok(r.low <= 2 && r.high >= 2 && r.low > 1.6 && r.high < 2.4, "lies in its interval (%.3f to %.3f)", r.low, r.high);
    ok(samples_ratio(&a, &b, &again) == 0 && near(r.low, again.low) && near(r.high, again.high),
       "the same samples give the same interval");
    samples_done(&b);
    fill(&b, (const double[]){10, 10, 10}, 3);
    samples_done(&a);
    fill(&a, (const double[]){30, 30, 30, 30}, 4);
    ok(samples_ratio(&a, &b, &r) == 0 && near(r.low, 3) && near(r.high, 3), "without spread it is a point");
    samples_done(&a);
    samples_done(&b);
    samples_done(&zero);
}

/* ---- Words ---- */

static bool split(const char *text, const char *wanted)
{
    char **words, joined[200] = "";
    if (shell_split(text, &words, NULL) < 0)
        return false;
    for (char **w = words; *w; w++) {
        strcat(joined, *w);
        strcat(joined, "|");
    }
    free(words);
    return strcmp(joined, wanted) == 0;
}

static void test_words(void)
{
    ok(split(" a  b\tc ", "a|b|c|"), "white space separates");
    ok(split("sh -c 'a \"b\" \\c'", "sh|-c|a \"b\" \\c|"), "single quotes keep everything");
    ok(split("\"a 'b' \\\" \\\\ \\n\"", "a 'b' \" \\ \\n|"), "double quotes keep all but quoted quotes");
    ok(split("a\\ b c\\\\", "a b|c\\|"), "a backslash keeps the next");
    ok(split("a'b c'd\"\" ''", "ab cd||"), "parts of one word, and an empty one");
    ok(split("a; b | c > d $HOME `x` *", "a;|b|||c|>|d|$HOME|`x`|*|"), "nothing is expanded, nothing is an operator");
    ok(!split("a 'b", "") && !split("a \"b", "") && !split("   ", ""),
       "an open quote, and nothing at all, are refused");
}

/* ---- Configuration ---- */

static bool refused(const char *text, const char *words)
{
    struct subject s = SUBJECT_INIT;
    struct mvm_error e = MVM_ERROR_INIT;
    int r = subject_parse(&s, &home, text, strlen(text), folder, &e);
    bool found = r < 0 && strstr(e.msg, words);
    if (!found)
        printf("# %d: %s\n", r, e.msg);
    subject_done(&s);
    return found;
}

static void test_config(void)
{
    struct subject s = SUBJECT_INIT;
    struct mvm_error e = MVM_ERROR_INIT;
    char target[200] = "";
    static const char good[] = "name = 'slim'\nkernel = 'k'\nrootfs = 'r'\ninitrd = 'i'\ncmdline = 'quiet x=1'\n"
                               "memory = '128M'\ncpus = 2\nmode = 'cold'\nbackend = 'qemu'\n";
    for (const char *name = "kri"; *name; name++) {
        const char file[] = {*name, '\0'};
        if (path_write_file(folder, file, "x", 1, 0600, false, NULL) < 0)
            abort();
    }
    ok(subject_parse(&s, &home, good, strlen(good), folder, &e) == 0, "every key (%s)", e.msg);
    struct machine_config c = subject_config(&s);
    ok(strcmp(s.name, "slim") == 0 && c.memory_mib == 128 && c.vcpus == 2 && c.cold &&
           strcmp(c.hypervisor, "qemu") == 0,
       "settings are those of the VM");
    CLEAN_FD int image = open(c.image, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    ok(image >= 0 && readlinkat(image, "vmlinux", target, sizeof(target) - 1) > 0 && strstr(target, top) &&
           faccessat(image, "rootfs.ext4", R_OK, 0) == 0 && faccessat(image, "initrd", R_OK, 0) == 0 &&
           faccessat(image, "cmdline.txt", R_OK, 0) == 0,
       "the image is a folder of links to the files");
    char *path = strdup(c.image);
    subject_done(&s);
    ok(path && access(path, F_OK) < 0, "which is gone afterwards");
    free(path);
    ok(refused("kernel = 'k'", "neither a flake nor kernel and rootfs"), "half an image");
    ok(refused("flake = '.'\nkernel = 'k'", "a flake and files"), "two images");
    ok(refused("\nkernal = 'k'", "line 2: there is no key 'kernal'"), "a key mistyped");
    ok(refused("kernel = 'k'\nrootfs = 'r'\ncpus = 0", "line 3: cpus"), "a number out of range");
    ok(refused("kernel = 'k'\nrootfs = 'r'\nmemory = '1M'", "memory '1M'"), "too little memory");
    ok(refused("kernel = 'k'\nrootfs = 'r'\nmode = 'hot'", "neither warm nor cold"), "another mode");
    ok(refused("kernel = 'k'\nrootfs = 'r'\nbackend = 'bochs'", "no such backend"), "another backend");
    ok(refused("kernel = 'k'\nrootfs = 'none'", "none: No such file"), "a file that is not there");
    ok(refused("kernel = 'k'\nrootfs = '.'", "is no plain file"), "a folder");
    ok(refused("kernel = 'k'\nrootfs = 'r'\ncmdline = \"a\\nb\"", "not one line"), "a command line of two lines");
    ok(refused("kernel = 1", "a text is wanted"), "another type");
}

/* ---- Counts ---- */

static void test_count(void)
{
    struct instruction_count c;
    static const char log[] = "mvm: agent of role runtime on Linux 6.12 is there\n"
                              "(count) step agent 1900\n(count) step hello 9000000\n"
                              "(count) kernel 100 initcall small_init+0x0/0x10 returned 0 after 5 usecs\n"
                              "(count) kernel 200 initcall large_init+0x0/0x90 returned 0 after 1000 usecs\n"
                              "(count) kernel 300 initcall mod_init [mod]+0x0/0x90 returned -19 after 20 usecs\n"
                              "(count) kernel 4000 Run /init as init process\n"
                              "(count) kernel 8000 (count) mark 9500000\n"
                              "web: (count) step hello 1\n"
                              "(count) step configure 10000000\n(count) step services 10000700\n";
    ok(instruction_count_parse(&c, log, NULL) == 0 && c.total == 9000000 && c.services == 700,
       "the total and the services");
    ok(c.firmware == 1500000 && c.kernel == 4000000 && c.init == 3500000, "the phases add up to the total");
    ok(c.n_initcalls == 3 && c.initcalls == 1025000 && c.n_top == 3 && strcmp(c.top[0].name, "large_init") == 0 &&
           c.top[0].instructions == 1000000 && strcmp(c.top[2].name, "small_init") == 0,
       "initcalls, the largest first");
    ok(instruction_count_parse(&c, "(count) step hello 77\n", NULL) == 0 && c.total == 77 && c.kernel == 0,
       "without the kernel's word only the total");
    ok(instruction_count_parse(&c, "web: (count) step hello 77\n", NULL) == -EINVAL, "a service's words are none");
    char many[8192] = "(count) step hello 5\n";
    for (int i = 0; i < 60; i++)
        sprintf(many + strlen(many), "(count) kernel 1 initcall f%d+0x0/0x1 returned 0 after %d usecs\n", i,
                i * 7 % 60);
    ok(instruction_count_parse(&c, many, NULL) == 0 && c.n_top == INSTRUCTION_MAX_INITCALLS && c.n_initcalls == 60 &&
           c.top[0].instructions == 59000 && c.top[INSTRUCTION_MAX_INITCALLS - 1].instructions == 36000,
       "of many the largest");
}

/* ---- The page ---- */

static void test_report(void)
{
    struct bench b = {.n_samples = 3};
    struct hostfacts host = {.cpu = "<cpu>", .cores = 2};
    struct bench_side *one = bench_add(&b, BENCH_BOOT), *two = bench_add(&b, BENCH_BASELINE);
    snprintf(one->name, sizeof(one->name), "<script>&\"'");
    snprintf(two->name, sizeof(two->name), "other");
    fill(&one->samples, (const double[]){10, 12, 11}, 3);
    fill(&two->samples, (const double[]){5, 6, 5}, 3);
    one->n_phases = 1;
    snprintf(one->phases[0].name, sizeof(one->phases[0].name), "boot");
    fill(&one->phases[0].samples, (const double[]){9, 9, 9}, 3);
    struct report r = {.bench = &b, .title = "bench boot", .host = &host};
    CLEAN_BUF struct buf page = BUF_INIT(1 << 20);
    ok(report_page(&r, &page) == 0, "a page is written");
    ok(!strstr(buf_cstr(&page), "<script") && strstr(buf_cstr(&page), "&lt;script&gt;&amp;&quot;&#39;") &&
           strstr(buf_cstr(&page), "&lt;cpu&gt;"),
       "names are escaped");
    ok(strstr(buf_cstr(&page), "prefers-color-scheme:dark") && !strstr(buf_cstr(&page), "http"),
       "it is dark and light, and refers to nothing outside");
    ok(strstr(buf_cstr(&page), "<td>12.000</td>"), "it has the samples");
    ok(strstr(buf_cstr(&page), ">median<") && strstr(buf_cstr(&page), "90th percentile (p90)"),
       "C8: a legend says which line is the median and which p90");
    const char *file = getenv("MVM_REPORT_PAGE"); /* for the test that looks at it with a browser */
    FILE *f = file ? fopen(file, "w") : NULL;
    ok(!file || (f && fwrite(page.data, 1, page.len, f) == page.len && fclose(f) == 0), "the page can be kept");
    report_judge(&r, 10.5);
    ok(r.over_budget && near(r.over_by_ms, 0.5), "a budget is exceeded by the median");
    report_judge(&r, 11);
    ok(!r.over_budget, "and kept where it equals the median");
    CLEAN_JSON json_object *o = report_json(&r);
    json_object *ratios;
    ok(json_get_array(o, "ratios", &ratios, NULL) == 0 && json_object_array_length(ratios) == 1,
       "one ratio of two sides");
    one->count = true;
    CLEAN_JSON json_object *p = report_json(&r);
    ok(json_get_array(p, "ratios", &ratios, NULL) == 0 && json_object_array_length(ratios) == 0,
       "none of instructions to time");
    ok(bench_add(&b, BENCH_BOOT) && !bench_add(&b, BENCH_BOOT), "at most three sides");
    bench_done(&b);
}

static void test_steps(void)
{
    struct steps s = {0}, back = {0};
    char text[STEPS_MAX_TEXT];
    steps_span(&s, "spawn-vmm", 5, 9);
    steps_span(&s, "restore", 9, 12);
    steps_span(NULL, "nobody", 1, 2);
    steps_format(&s, text, sizeof(text));
    steps_parse(&back, text);
    ok(back.n == 2 && strcmp(back.v[1].name, "restore") == 0 && back.v[0].end == 9, "steps travel as text");
    back.n = 0;
    steps_parse(&back, "x\nBAD 1 2\na 5 4\nb 1 2 3\n\nc 1");
    ok(back.n == 1 && strcmp(back.v[0].name, "b") == 0, "lines that are none are skipped");
    steps_format(&s, text, 20);
    ok(strcmp(text, "spawn-vmm 5 9\n") == 0, "a text without room ends with a whole line");
    for (int i = 0; i < 100; i++)
        steps_span(&s, "more", 1, 2);
    ok(s.n == STEPS_MAX, "what has no room is left out");
}

/* ---- Samples, many VMs, this machine ---- */

/* A foreign command as one side; how taking a sample of it ends. */
static int run_baseline(const char *script, uint64_t timeout_ms, struct bench_side *s, struct mvm_error *e)
{
    char sh[] = "sh", flag[] = "-c", text[128];
    char *argv[] = {sh, flag, text, NULL};
    struct bench b = {.timeout_ms = timeout_ms};
    snprintf(text, sizeof(text), "%s", script);
    s->kind = BENCH_BASELINE;
    s->argv = argv;
    int r = sample_take(&b, s, true, e);
    if (r == 0)
        r = sample_take(&b, s, false, e);
    s->argv = NULL;
    return r;
}

static void test_baseline(void)
{
    struct mvm_error e = MVM_ERROR_INIT;
    struct bench_side s = {.name = "sh"};
    ok(run_baseline("exit 0", 30000, &s, &e) == 0 && s.samples.n == 1 && s.samples.v[0] > 0 && s.n_phases == 0,
       "a foreign command is timed; a warm-up leaves no sample");
    ok(run_baseline("exit 3", 30000, &s, &e) == -EIO && strstr(e.msg, "exits with status 3") && s.samples.n == 1,
       "one that fails is no sample, and its status is told");
    ok(run_baseline("kill -9 $$", 30000, &s, &e) == -EIO && strstr(e.msg, "137"), "so is the signal that ended one");
    ok(run_baseline("sleep 100", 100, &s, &e) == -ETIMEDOUT && strstr(e.msg, "within 0.1 s") &&
           strstr(e.hint, "--timeout"),
       "one that does not end in time is ended");
    char none[] = "no-such-program-here";
    char *argv[] = {none, NULL};
    struct bench b = {.timeout_ms = 1000};
    s.argv = argv;
    ok(sample_take(&b, &s, true, &e) == -ENOENT, "one that is not there is an error");
    ok(sample_prepare(&b, &s, &e) == 0, "a foreign command needs nothing before");
    samples_done(&s.samples);
}

static void test_density(void)
{
    struct density_vm vms[2] = {{.warm = true, .ready_ms = 10.12345, .vmm_kib = 1024, .supervisor_kib = 512},
                                {.ready_ms = 30}};
    struct density d = {.vms = vms, .n = 2, .all_ready_ms = 31.5, .down_ms = 2};
    const struct hostfacts host = {
        .cpu = "a \"processor\"", .kernel = "6", .cores = 2, .memory_mib = 4096, .load = 0.5};
    fill(&d.ready_ms, (const double[]){10, 30}, 2);
    fill(&d.total_mib, (const double[]){1.5}, 1);
    CLEAN_JSON json_object *o = density_json(&d, &host);
    const char *text = json_object_to_json_string_ext(o, JSON_C_TO_STRING_PLAIN);
    ok(strstr(text, "\"count\":2,\"warm\":1,\"all_ready_ms\":31.500,\"down_ms\":2.000"),
       "many VMs are counted, warm ones apart");
    ok(strstr(text, "\"ready_ms\":{\"p50\":20.000,\"p90\":28.000,\"p99\":29.800,\"max\":30.000}"),
       "their times are summed up");
    ok(strstr(text, "{\"warm\":true,\"ready_ms\":10.123,\"vmm_pss_kib\":1024,\"supervisor_pss_kib\":512}"),
       "each is listed");
    ok(strstr(text, "\"cpu\":\"a \\\"processor\\\"\"") && strstr(text, "\"memory_mib\":4096"), "so is the machine");
    ok(strstr(text, "\"vmm_pss_mib\":{\"p50\":0.000"), "what was not measured is 0, and no number that JSON lacks");
    samples_done(&d.ready_ms);
    samples_done(&d.total_mib);
    struct density none = {0};
    density_done(&none);
}

static void test_hostfacts(void)
{
    struct hostfacts f;
    memset(&f, 0xff, sizeof(f));
    hostfacts_load(&f, NULL);
    ok(f.cores >= 1 && f.memory_mib > 0 && f.kernel[0] && f.machine[0] && f.load >= 0 && !strchr(f.cpu, '\n'),
       "this machine's facts are found out");
    hostfacts_load(&f, "no such backend");
    ok(!f.backend[0] && f.cores >= 1, "what cannot be found out is empty");
}

int main(void)
{
    snprintf(top, sizeof(top), "%s", tap_folder());
    setenv("MVM_HOME", top, 1);
    setenv("MVM_CACHE_DIR", top, 1);
    if (home_open(&home, NULL) < 0 || (folder = open(top, O_RDONLY | O_DIRECTORY | O_CLOEXEC)) < 0)
        return 1;
    test_percentiles();
    test_ratio();
    test_words();
    test_config();
    test_count();
    test_report();
    test_steps();
    test_baseline();
    test_density();
    test_hostfacts();
    close(folder);
    home_done(&home);
    (void)!path_remove_tree(AT_FDCWD, top);
    return tap_end();
}
