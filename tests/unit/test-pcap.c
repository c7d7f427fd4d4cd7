/* The file of --pcap. */
#include "tap.h"

#include "base/clock.h"
#include "base/path.h"
#include "net/pcap.h"

#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define NAME "frames.pcap"

static int folder;

static int add(void)
{
    return openat(folder, NAME, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
}

static uint64_t size(void)
{
    struct stat st;
    return fstatat(folder, NAME, &st, 0) == 0 ? (uint64_t)st.st_size : 0;
}

static void test_file(void)
{
    static uint8_t frame[70000];
    struct pcap p;
    CLEAN_BUF struct buf text = BUF_INIT(1 << 20);
    pcap_init(&p, add());
    memset(frame, 'x', sizeof(frame));
    pcap_frame(&p, frame, 60, 5 * NSEC_PER_SEC + 7);
    ok(size() == 0 && !pcap_flush(&p) && size() == 24 + 16 + 60, "a frame is written when it is asked for");
    pcap_done(&p);
    pcap_init(&p, add());
    pcap_frame(&p, frame, 70000, 6 * NSEC_PER_SEC);
    pcap_done(&p);
    uint32_t word[32];
    ok(path_read_file(folder, NAME, &text, NULL) == 0 && text.len == 24 + 16 + 60 + 16 + 4096,
       "the next process goes on in the same file, and of a long frame its beginning is kept");
    memcpy(word, text.data, 100);
    ok(word[0] == 0xa1b23c4d && word[1] == 0x00040002 && word[4] == 4096 && word[5] == 1,
       "it begins as pcap(5) has it: nanoseconds, 2.4, Ethernet");
    ok(word[6] == 5 && word[7] == 7 && word[8] == 60 && word[9] == 60, "a frame has its time and its length");
    memcpy(word, text.data + 100, 16);
    ok(word[0] == 6 && word[2] == 4096 && word[3] == 70000, "a frame that is cut has both lengths");
}

static void test_full(void)
{
    static uint8_t frame[PCAP_SNAP];
    struct pcap p;
    unlinkat(folder, NAME, 0);
    int fd = add();
    if (ftruncate(fd, PCAP_CAP - 2 * (16 + PCAP_SNAP) - 100) < 0)
        abort();
    pcap_init(&p, fd);
    for (int i = 0; i < 3; i++)
        pcap_frame(&p, frame, sizeof(frame), 0);
    const char *said = pcap_flush(&p);
    ok(said && strstr(said, "full") && size() == PCAP_CAP - 100,
       "beyond its bound no frame is written, and that is said");
    pcap_frame(&p, frame, sizeof(frame), 0);
    ok(!pcap_flush(&p), "once");
    pcap_done(&p);
    pcap_init(&p, -1);
    pcap_frame(&p, frame, sizeof(frame), 0);
    ok(!pcap_flush(&p), "without a file nothing is written");
    pcap_done(&p);
    pcap_init(&p, openat(folder, NAME, O_RDONLY | O_CLOEXEC));
    if (p.bytes >= PCAP_CAP)
        abort();
    pcap_frame(&p, frame, 10, 0);
    said = pcap_flush(&p);
    ok(said && strstr(said, "cannot be written"), "where it cannot be written that is said: %s", said);
    pcap_done(&p);
}

int main(void)
{
    const char *path = tap_folder();
    folder = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    test_file();
    test_full();
    (void)!path_remove_tree(AT_FDCWD, path);
    return tap_end();
}
