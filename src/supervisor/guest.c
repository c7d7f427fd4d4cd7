/* What the guest's agent says to this process: that it is there, that it is configured, how its services are, that it
 * ends. */
#include "base/clock.h"
#include "net/layout.h"
#include "supervisor/internal.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>

/* As systemd does it for a fresh machine: random, machine-id(5). */
static void make_machine_id(char out[static 33])
{
    uint8_t id[16];
    if (getrandom(id, sizeof(id), 0) != (ssize_t)sizeof(id))
        return;
    id[6] = (uint8_t)((id[6] & 0x0f) | 0x40);
    id[8] = (uint8_t)((id[8] & 0x3f) | 0x80);
    for (size_t i = 0; i < sizeof(id); i++)
        snprintf(out + 2 * i, 3, "%02x", id[i]);
}

static void send_configure(struct supervisor *s)
{
    struct msg_configure m = {.wall_ns = clock_wall(), .seed_len = sizeof(m.seed)};
    struct layout_texts texts;
    snprintf(m.hostname, sizeof(m.hostname), "%s", s->run.hostname);
    layout_texts((unsigned)s->run.member, &texts);
    snprintf(m.mac, sizeof(m.mac), "%s", texts.mac);
    snprintf(m.address, sizeof(m.address), "%.40s/%d", texts.address, NET_BITS);
    snprintf(m.address6, sizeof(m.address6), "%.40s/%d", texts.address6, NET_BITS6);
    snprintf(m.gateway, sizeof(m.gateway), NET_GATEWAY);
    m.mtu = NET_MTU;
    snprintf(m.dns, sizeof(m.dns), NET_DNS);
    if (runfile_is_unlinked(&s->run)) {
        m.unlinked = true;
        m.address[0] = m.address6[0] = m.gateway[0] = m.dns[0] = '\0';
    }
    m.store_check = s->run.store_check;
    m.copied = s->run.state[0] && s->vm.stage == VM_RESTORING;
    m.window = ROUTER_WINDOW;
    if (getrandom(m.seed, sizeof(m.seed), 0) != (ssize_t)sizeof(m.seed))
        m.seed_len = 0;
    make_machine_id(m.machine_id);
    CLEAN_BUF struct buf b = BUF_INIT(4096);
    if (msg_configure_encode(&b, &m) == 0)
        conn_send_frame(supervisor_guest(s), FRAME_MSG, 0, 0, b.data, b.len);
    explicit_bzero(&m, sizeof(m));
    explicit_bzero(b.data, b.len);
}

static int on_hello(struct supervisor *s, const void *p, size_t n)
{
    struct msg_hello m = {0};
    int r = msg_hello_decode(&m, p, n);
    if (r < 0)
        return r;
    if (m.protocol != MVM_PROTOCOL_VERSION) {
        starter_fail(s, "the guest's agent speaks protocol %llu, this mvmctl speaks %d", (unsigned long long)m.protocol,
                     MVM_PROTOCOL_VERSION);
        return 0;
    }
    if (s->status.hello_ns == 0)
        s->status.hello_ns = supervisor_since_start(s);
    vm_hello(&s->vm, &m);
    return 0;
}

void guest_agent(void *owner, const struct msg_hello *m)
{
    struct supervisor *s = owner;
    if (s->status.hello_ns == 0)
        s->status.hello_ns = supervisor_since_start(s);
    s->status.guest_boot_ns = m->boot_ns;
    s->status.guest_ready_ns = m->ready_ns;
    if (s->run.state[0] && s->vm.stage == VM_RESTORING)
        logfile_printf(&s->agent_log, "mvm: the guest continues from a snapshot\n");
    else
        logfile_printf(&s->agent_log, "mvm: agent of role %s on Linux %s is there\n", m->role, m->kernel);
    s->hello = *m;
    /* A second hello: the agent has begun anew, what it served is gone. */
    router_set_guest(s->router, false, "the guest's agent was restarted");
    send_configure(s);
}

static int on_configured(struct supervisor *s, const void *p, size_t n)
{
    struct msg_configured m = {0};
    int r = msg_configured_decode(&m, p, n);
    if (r < 0)
        return r;
    if (s->vm.stage == VM_MAKING || s->vm.stage == VM_SAVING)
        return -EPROTO; /* nobody asked it to */
    vm_configured(&s->vm);
    router_set_small_windows(s->router, m.window == ROUTER_WINDOW);
    router_set_guest(s->router, true, "");
    s->connects = m.connects;
    publish_guest(s->publish, true);
    snprintf(s->status.address, sizeof(s->status.address), "%s", m.address);
    snprintf(s->status.store, sizeof(s->status.store), "%s", m.store);
    if (m.problem[0])
        logfile_printf(&s->agent_log, "mvm: %s\n", m.problem);
    if (s->life.stage != LIFE_STARTING)
        return 0;
    if (s->run.member_of[0] && !m.moves) {
        snprintf(s->status.hint, sizeof(s->status.hint), "build the image again");
        starter_fail(s, "the agent in its image is older than networks between VMs");
        return 0;
    }
    /* A builder without its store is of no use; a runtime VM without a network still is. */
    if (m.problem[0] && vm_role_parse(s->run.role) == VM_ROLE_BUILDER) {
        starter_fail(s, "the builder is not usable: %s", m.problem);
        return 0;
    }
    snprintf(s->status.problem, sizeof(s->status.problem), "%s", m.problem);
    steps_add(&s->vm.steps, "configure", s->vm.since);
    s->configured_at = clock_now();
    snprintf(s->status.mode, sizeof(s->status.mode), "%s", vm_start_name(s->vm.warm ? VM_START_WARM : VM_START_COLD));
    snprintf(s->status.cold_reason, sizeof(s->status.cold_reason), "%s", s->vm.warm ? "" : s->vm.cold_reason);
    s->used_at = clock_now();
    (void)life_happens(&s->life, LIFE_E_READY);
    /* To execute a service is the guest's next step: who does not look for failures need not wait for that. */
    bool wait = m.services && s->run.ready == READY_SERVICES && (m.slow || s->run.settle_ms);
    if (m.slow && !s->status.services[0])
        snprintf(s->status.services, sizeof(s->status.services), "%s", services_state_name(SERVICES_STARTING));
    if (wait)
        starter_judge_services(s);
    else
        starter_say_ready(s);
    return 0;
}

static int on_services(struct supervisor *s, const void *p, size_t n)
{
    struct msg_services m = {0};
    int r = msg_services_decode(&m, p, n);
    if (r < 0)
        return r;
    logfile_printf(&s->agent_log, "mvm: services: %s%s%s\n", m.state, m.problem[0] ? ": " : "", m.problem);
    snprintf(s->status.services, sizeof(s->status.services), "%s", m.state);
    snprintf(s->status.services_problem, sizeof(s->status.services_problem), "%s", m.problem);
    starter_judge_services(s);
    return 0;
}

/* The guest powers off or restarts by itself: its VMM ends soon (-no-reboot), or is ended. */
static int on_ending(struct supervisor *s, const void *p, size_t n)
{
    struct msg_ending m = {0};
    if (msg_ending_decode(&m, p, n) < 0)
        return -EPROTO;
    s->ending = m.how == ENDING_RESTART ? "the guest restarted" : "the guest powered off";
    if (life_is_up(&s->life))
        supervisor_stop(s, IDLE_GRACE_MS, false);
    return 0;
}

int guest_msg(void *data, const void *p, size_t n)
{
    struct supervisor *s = data;
    struct msg_reader r;
    if (msg_open(&r, p, n) < 0)
        return -EPROTO;
    if (r.type == MSG_HELLO)
        return on_hello(s, p, n);
    if (r.type == MSG_CONFIGURED)
        return on_configured(s, p, n);
    if (r.type == MSG_ENDING)
        return on_ending(s, p, n);
    if (r.type == MSG_SERVICES)
        return on_services(s, p, n);
    if (r.type == MSG_DRAINED) {
        live_save_drained(&s->live_save);
        return 0;
    }
    if (r.type == MSG_QUIESCED) {
        idle_pause_agreed(&s->idle_pause);
        return 0;
    }
    if (r.type == MSG_LOG) {
        struct msg_log m = {0};
        if (msg_log_decode(&m, p, n) < 0)
            return -EPROTO;
        logfile_printf(&s->agent_log, "%s\n", m.text);
    } else if (r.type == MSG_SERVICE) {
        struct msg_service m = {0};
        if (msg_service_decode(&m, p, n) < 0)
            return -EPROTO;
        logfile_printf(&s->agent_log, "mvm: service %s %s (%llu)\n", m.name, m.state, (unsigned long long)m.code);
    }
    return 0; /* what a newer agent may say besides is ignored */
}
