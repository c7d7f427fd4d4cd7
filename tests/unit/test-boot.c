/* From a command's options and an image to a VM's configuration: starting it is played here. */
#include "tap.h"

#include "base/fd.h"
#include "base/path.h"
#include "captured.h"
#include "cli/boot.h"
#include "cli/command.h"
#include "cli/network_limits.h"
#include "cli/network_options.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

extern const struct command cmd_up;

/* ---- What is started ---- */

static struct {
    struct machine_config config;
    char name[VMDIR_MAX_NAME + 1], hostname[64], network[64], limits[64], pcap[128];
    unsigned starts, taken; /* so many names are taken before one is free */
} played;

int __wrap_machine_start(struct home *h, const struct machine_config *c, struct progress *p, struct machine_info *info,
                         struct mvm_error *err);
int __wrap_machine_pick_name(struct home *h, const char *base, char ret[static VMDIR_MAX_NAME + 1],
                             struct mvm_error *err);

int __wrap_machine_start(struct home *h, const struct machine_config *c, struct progress *p, struct machine_info *info,
                         struct mvm_error *err)
{
    played.starts++;
    played.config = *c;
    snprintf(played.name, sizeof(played.name), "%s", c->name);
    snprintf(played.hostname, sizeof(played.hostname), "%s", c->hostname ? c->hostname : "");
    snprintf(played.network, sizeof(played.network), "%s", c->network);
    snprintf(played.limits, sizeof(played.limits), "%s", c->network_limits);
    snprintf(played.pcap, sizeof(played.pcap), "%s", c->pcap ? c->pcap : "");
    return played.starts <= played.taken ? mvm_error_set(err, -EEXIST, "it runs") : 0;
}

int __wrap_machine_pick_name(struct home *h, const char *base, char ret[static VMDIR_MAX_NAME + 1],
                             struct mvm_error *err)
{
    snprintf(ret, VMDIR_MAX_NAME + 1, "%.30s-%u", base, played.starts + 1);
    return 0;
}

/* ---- The command's side ---- */

static struct args arguments(const char *line)
{
    static char text[256], *words[32];
    struct args a;
    int n = 1;
    words[0] = text;
    snprintf(text, sizeof(text), "%s", line);
    for (char *w = strtok(text, " "); w; w = strtok(NULL, " "))
        words[n++] = w;
    if (args_parse(&a, &cmd_up, n, words) != 0)
        abort();
    return a;
}

static int boot(const char *line, const char *name, bool transient, struct mvm_error *e)
{
    struct artifact_image img = ARTIFACT_IMAGE_INIT;
    struct machine_info info;
    struct args a = arguments(line);
    char path[] = "/image";
    img.path = path;
    img.metadata.memory_mib = 300;
    img.metadata.vcpus = 3;
    snprintf(img.metadata.name, sizeof(img.metadata.name), "%s", name);
    snprintf(img.metadata.network, sizeof(img.metadata.network), "@none");
    snprintf(img.digest, sizeof(img.digest), "digest");
    unsigned taken = played.taken;
    memset(&played, 0, sizeof(played));
    played.taken = taken;
    *e = (struct mvm_error)MVM_ERROR_INIT;
    struct home h = {.state_fd = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC)}; /* it has no config.toml */
    CLEAN_FD int state = h.state_fd;
    return boot_image(&a, &h, &img, transient, 7, NULL, &info, e);
}

static void test_image(void)
{
    struct mvm_error e;
    ok(boot("image", "web", false, &e) == 0 && played.config.memory_mib == 300 && played.config.vcpus == 3 &&
           played.config.ready == READY_SERVICES && played.config.settle_ms == 7 && !played.config.cold &&
           played.config.role == VM_ROLE_RUNTIME && strcmp(played.config.image_digest, "digest") == 0,
       "what the options leave open the image says");
    ok(strcmp(played.network, "@public @none") == 0, "within the default policy the image says what the guest reaches");
    ok(boot("image --network full", "web", false, &e) == 0 && strcmp(played.network, "@full") == 0,
       "an option wins over the image's wish");
    ok(boot("image --net-rate 1M/0 --net-connections 9 --net-queries 8", "web", false, &e) == 0 &&
           strcmp(played.limits, "rate=1048576/0 connections=9 queries=8") == 0,
       "limits of the network: %s", played.limits);
    ok(boot("image --network app", "web", false, &e) == 0 && strcmp(played.config.member_of, "app") == 0 &&
           !played.network[0],
       "in a network its policy counts, and neither config.toml's nor the image's");
    ok(boot("image", "web", false, &e) == 0 && strcmp(played.name, "web-1") == 0 && strcmp(played.hostname, "web") == 0,
       "a VM without a name has a free one made of the image's, the guest the image's own: %s", played.name);
    ok(boot("image --memory 128M --cpus 2 --cold --timeout 2.5 --ready agent --name my", "web", false, &e) == 0 &&
           played.config.memory_mib == 128 && played.config.vcpus == 2 && played.config.cold &&
           played.config.timeout_ms == 2500 && played.config.ready == READY_AGENT && strcmp(played.name, "my") == 0,
       "options win over the image");
    ok(boot("image", "builder-3", false, &e) == 0 && strcmp(played.name, "vm-1") == 0,
       "an image with a builder's name lends it to no VM");
    ok(boot("image", "web", true, &e) == 0 && played.config.transient && played.config.ready == READY_AGENT,
       "a transient VM waits for no services");
    played.taken = 3;
    ok(boot("image", "web", false, &e) == 0 && played.starts == 4 && strcmp(played.name, "web-4") == 0,
       "where another took the name meanwhile, the next one is tried");
    played.taken = 100;
    ok(boot("image", "web", false, &e) == -EEXIST && played.starts == 20,
       "a free name is tried for twenty times at most");
    ok(boot("image --name my", "web", false, &e) == -EEXIST && played.starts == 1,
       "a name that was asked for is tried once");
    played.taken = 0;
}

static void test_refusals(void)
{
    struct mvm_error e;
    static const struct {
        const char *line, *words;
    } bad[] = {
        {"image --ready soon", "--ready soon"},         {"image --name builder", "builder"},
        {"image --name builder-12", "builder-12"},      {"image --name ../x", "../x"},
        {"image --hypervisor stone", "stone"},          {"image --net-rate 10M", "'10M'"},
        {"image --net-connections 0", "connections 0"}, {"image --net-connections 65537", "65537"},
        {"image --net-queries 1x", "queries 1x"},       {"image --net-queries -1", "queries -1"},
    };
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        struct args a = arguments(bad[i].line);
        e = (struct mvm_error)MVM_ERROR_INIT;
        ok(boot_check_options(&a, &e) == -EINVAL && strstr(e.msg, bad[i].words) && e.hint[0],
           "'up %s' is refused before anything long begins", bad[i].line);
    }
    struct args good = arguments("image --ready services --name web --memory 1G");
    ok(boot_check_options(&good, &e) == 0, "options that are right are taken");
    ok(boot("image --name builder-1", "web", false, &e) == -EINVAL && played.starts == 0,
       "a builder's name starts no VM either");
    static const char *const names[] = {"builders", "builder-x", "builder-1x", "my-builder"};
    for (size_t i = 0; i < ARRAY_SIZE(names); i++)
        ok(boot_check_name(names[i], NULL) == 0, "'%s' is no builder's name", names[i]);
}

/* ---- What is told ---- */

static void test_print(void)
{
    CLEAN_BUF struct buf out = BUF_INIT(65536);
    CLEAN_BUF struct buf errors = BUF_INIT(65536);
    struct machine_info info = {.name = "web", .image = "digest", .backend = "qemu", .accel = {.name = "tcg"}};
    info.status.ready_ns = 42000000;
    snprintf(info.status.mode, sizeof(info.status.mode), "cold");
    snprintf(info.status.confinement, sizeof(info.status.confinement), "none: too old");
    for (int json = 0; json < 2; json++) {
        ui_init(json, false);
        struct captured o = capture(STDOUT_FILENO), e = capture(STDERR_FILENO);
        json_object *more = json_object_new_object();
        json_add_string(more, "from", "a:b");
        boot_print(&info, NULL, NULL, NULL, false, more);
        capture_end(&e, &errors);
        capture_end(&o, &out);
        if (json)
            ok(strstr(buf_cstr(&out), "\"name\":\"web\"") && strstr(buf_cstr(&out), "\"mode\":\"cold\"") &&
                   strstr(buf_cstr(&out), "\"from\":\"a:b\"") && strstr(buf_cstr(&out), "\"address\":null"),
               "with --json it is an object, with what the command adds");
        else
            ok(strcmp(buf_cstr(&out), "web  ready in 42 ms\n") == 0 &&
                   strstr(buf_cstr(&errors), "warning: confinement of the VMM: none: too old"),
               "a VM that was started is a line, and a warning where its VMM is not confined");
    }
    ui_init(false, false);
}

static void network(const char *line, const char *want)
{
    struct args a = arguments(line);
    char got[NETWORK_OPTIONS_MAX];
    struct mvm_error e = MVM_ERROR_INIT;
    int r = network_options(&a, got, &e);
    if (want)
        ok(r == 0 && strcmp(got, want) == 0, "'%s' is '%s' (%s)", line, got, e.msg);
    else
        ok(r == -EINVAL && e.phase == MVM_PHASE_USAGE, "'%s' is refused: %s", line, e.msg);
}

static void test_network(void)
{
    network("/image", "");
    network("/image --network none", "@none");
    network("/image --network full", "@full");
    network("/image --allow Example.ORG:443", "@listed example.org:443");
    network("/image --network public --allow 10.0.0.0/8:22/tcp --allow host:5432",
            "@public 10.0.0.0/8:22/tcp host:5432");
    network("/image --allow example.org --allow example.org", "@listed example.org");
    network("/image --network builder", NULL);
    network("/image --allow *", NULL);
    network("/image --allow example..org", NULL);
    network("/image --allow example.org:70000", NULL);
    network("/image --allow host", NULL);
    network("/image --allow host:53/udp", NULL);
    network("/image --network none --allow example.org", NULL);
    network("/image --network app", "");
    network("/image --network app --allow example.org", NULL);
    network("/image --network a/b", NULL);
    struct args a = arguments("/image --network app");
    ok(strcmp(network_named(&a), "app") == 0, "a network's name is told from a policy's");
    a = arguments("/image --network full");
    ok(!network_named(&a), "and a policy's from a network's");
}

static void test_limits(void)
{
    const char *folder = tap_folder();
    static const char file[] = "[network]\nrate = '2M/1M'\nconnections = 50\n";
    struct home h = {.state_fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC)};
    CLEAN_FD int state = h.state_fd;
    struct args none = arguments("image"), some = arguments("image --net-rate /5M --net-queries 3");
    char got[NETWORK_LIMITS_MAX];
    struct mvm_error e = MVM_ERROR_INIT;
    ok(network_limits(&none, &h, "", got, &e) == 0 && !*got, "without a file and an option there are no limits");
    if (path_write_file(state, CONFIG_FILE, file, strlen(file), 0600, false, NULL) < 0)
        abort();
    ok(network_limits(&none, &h, "", got, &e) == 0 && strcmp(got, "rate=2097152/1048576 connections=50") == 0,
       "config.toml's limits count: %s", got);
    ok(network_limits(&none, &h, "connections=7", got, &e) == 0 &&
           strcmp(got, "rate=2097152/1048576 connections=7") == 0,
       "a snapshot's win: %s", got);
    ok(network_limits(&some, &h, "connections=7 queries=9", got, &e) == 0 &&
           strcmp(got, "rate=0/5242880 connections=7 queries=3") == 0,
       "options win over both: %s", got);
    CLEAN_JSON json_object *o = network_limits_json("rate=1/2");
    ok(strcmp(json_object_to_json_string_ext(o, JSON_C_TO_STRING_PLAIN),
              "{\"rate_in\":1,\"rate_out\":2,\"connections\":4096,\"queries\":100}") == 0,
       "they are shown with their defaults");
    (void)!path_remove_tree(AT_FDCWD, folder);
}

static void test_pcap(void)
{
    const char *folder = tap_folder();
    char line[200];
    struct mvm_error e = MVM_ERROR_INIT;
    struct stat st;
    snprintf(line, sizeof(line), "image --pcap %s/frames", folder);
    ok(boot(line, "web", false, &e) == 0 && strcmp(played.pcap, line + 13) == 0 && stat(played.pcap, &st) == 0 &&
           (st.st_mode & 07777) == 0600,
       "--pcap makes a file that is the user's alone (%s)", e.msg);
    ok(boot(line, "web", false, &e) == -EEXIST && e.phase == MVM_PHASE_USAGE && e.hint[0] && played.starts == 0,
       "it writes over none: %s", e.msg);
    snprintf(line, sizeof(line), "image --pcap %s/link", folder);
    ok(symlink("elsewhere", line + 13) == 0 && boot(line, "web", false, &e) == -EEXIST, "nor through a link");
    snprintf(line, sizeof(line), "image --pcap %s/none/frames", folder);
    ok(boot(line, "web", false, &e) == -ENOENT && played.starts == 0, "where it cannot be made no VM starts");
    snprintf(line, sizeof(line), "image --name my --pcap %s/second", folder);
    played.taken = 1;
    ok(boot(line, "web", false, &e) == -EEXIST && played.starts == 1 && stat(line + 23, &st) < 0,
       "of a VM that does not start nothing is left");
    played.taken = 0;
    (void)!path_remove_tree(AT_FDCWD, folder);
}

static void by_default(int policy, char *allow, const char *wish, const char *want)
{
    struct config c = CONFIG_INIT;
    char got[NETWORK_OPTIONS_MAX];
    struct mvm_error e = MVM_ERROR_INIT;
    c.network_policy = policy;
    if (allow)
        c.network_allow = (struct config_list){.v = {allow}, .n = 1};
    int r = network_default(&c, wish, got, &e);
    if (want)
        ok(r == 0 && strcmp(got, want) == 0, "with no option it is '%s' (%s)", got, e.msg);
    else
        ok(r < 0 && e.phase != MVM_PHASE_NONE, "'%s' and '%s' are refused: %s", allow ? allow : "", wish, e.msg);
}

static void test_network_default(void)
{
    char name[] = "Example.org", address[] = "10.0.0.1", two[] = "10.0.0.1 @full";
    by_default(-1, NULL, "", "@public");
    by_default(CONFIG_NETWORK_FULL, NULL, "", "@full");
    by_default(-1, name, "", "@listed example.org");
    by_default(CONFIG_NETWORK_PUBLIC, address, "", "@public 10.0.0.1");
    by_default(CONFIG_NETWORK_NONE, address, "", NULL);
    by_default(-1, two, "", NULL);
    by_default(-1, NULL, "@full host:80", "@public @full host:80");
    by_default(CONFIG_NETWORK_NONE, NULL, "@listed Example.org", "@none @listed example.org");
    by_default(-1, NULL, "@public *.org", NULL);
    by_default(-1, NULL, "@public @full", NULL);
    by_default(-1, NULL, "@secret", NULL);
    CLEAN_JSON json_object *counts = network_counts_json("sent_bytes 12 denied 3 x"), *none = network_counts_json("");
    ok(!none && strcmp(json_object_to_json_string_ext(counts, JSON_C_TO_STRING_PLAIN),
                       "{\"sent_bytes\":12,\"denied\":3}") == 0,
       "what a network process has counted is shown by name");
    char kind[NETWORK_KIND_MAX];
    network_kind("@listed a.b c.d @none", kind);
    CLEAN_JSON json_object *o = network_json(network_wish("@listed a.b @public c.d e.f"));
    ok(strcmp(kind, "listed") == 0 && !*network_wish("@public a.b") && !network_json(""),
       "a first layer is told apart");
    ok(strcmp(json_object_to_json_string_ext(o, JSON_C_TO_STRING_PLAIN),
              "{\"policy\":\"public\",\"allow\":[\"c.d\",\"e.f\"]}") == 0,
       "the image's wish is shown");
}

int main(void)
{
    commands_install();
    ui_init(false, false);
    test_network();
    test_network_default();
    test_limits();
    test_pcap();
    test_image();
    test_refusals();
    test_print();
    return tap_end();
}
