#!/usr/bin/env python3
"""Starts the supervisor of a VM whose VMM is the stand-in (tests/fake): fake-vm.py MVMCTL FAKE-VMM NAME BEHAVIOUR [TIMEOUT-MS [VCPUS [SNAPSHOTS]]]

It does what machine_start does, without an image that can boot. Prints the pid of the supervisor, once it has said that the
VM is ready or has failed.
"""
import fcntl, hashlib, json, os, platform, re, socket, subprocess, sys, time

os.umask(0o077)
mvmctl, fake, name, behaviour = sys.argv[1:5]
timeout_ms = int(sys.argv[5]) if len(sys.argv) > 5 else 20000
vcpus = int(sys.argv[6]) if len(sys.argv) > 6 else 1
snapshots = sys.argv[7] if len(sys.argv) > 7 else ""
home = os.environ["MVM_HOME"]
folder = f"{home}/vms/{name}"
image = f"{home}/image-{name if snapshots else behaviour}"  # a snapshot is an image's
path = f"{home}/path"
os.makedirs(folder, exist_ok=True)
os.makedirs(image, exist_ok=True)
os.makedirs(path, exist_ok=True)
contents = {"vmlinux": "", "rootfs.ext4": "", "cmdline.txt": f"fake={behaviour}\n"}
for file, content in contents.items():
    if not os.path.exists(f"{image}/{file}"):  # written anew it would be another image
        with open(f"{image}/{file}", "w") as f:
            f.write(content)
link = f"{path}/qemu-system-{platform.machine()}"
if not os.path.islink(link):
    try:
        os.symlink(fake, link)
    except FileExistsError:
        pass
with open(f"{os.environ['MVM_SOURCE']}/src/vmdir/runfile.c") as f:
    schema = int(re.search(r"#define SCHEMA (\d+)", f.read())[1])
run = dict(schema_version=schema, transient=False, counting=0, store_check=False, name=name, role="runtime", image="", backend="qemu",
           hostname=name, image_path=image, store_disk="", snapshots=snapshots, cold_reason="", state="", network="@public", accel="tcg", accel_reason="",
           tsc_khz=0, memory_mib=64, vcpus=vcpus, timeout_ms=timeout_ms, idle_ms=0, started_at=time.time_ns(),
           start_mono=time.monotonic_ns())
# Sealed: the digest of what is before it, then the end (src/host/json.c).
text = json.dumps(run)[:-1] + ', "sha256": "'
with open(f"{folder}/run.json", "w") as f:
    f.write(text + hashlib.sha256(text.encode()).hexdigest() + '"\n}\n')
dirfd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
lock = os.open(f"{folder}/lock", os.O_RDWR | os.O_CREAT, 0o600)
fcntl.flock(lock, fcntl.LOCK_EX)
ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
fds = [dirfd, lock, theirs.fileno()]
supervisor = subprocess.Popen([mvmctl, "--supervise", *map(str, fds)], pass_fds=fds, start_new_session=True,
                              stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                              env=dict(os.environ, PATH=f"{path}:{os.environ['PATH']}"))
theirs.close()
ours.settimeout(60)
ours.recv(65536)
print(supervisor.pid)
