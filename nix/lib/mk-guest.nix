# mkGuest: from a command or services to vmlinux, rootfs.ext4, initrd, cmdline.txt and image.json.
#
#   name       of the image and, by default, of the VM
#   command    what the VM runs: a shell line or a list of words (short for one service of that name)
#   services   { NAME = { command; user ? ; cwd ? ; env ? {}; restart ? "on-failure"; }; }
#   packages   derivations or store paths; their bin/ is on PATH
#   files      { "/path" = "text"; "/path" = { text | source; mode ? "0644"; }; }
#   env        environment of services and of `mvmctl exec`
#   hostname   default: the name of the VM;  ports: for the reader of image.json
#   network    "static" (the address that mvmctl gives; the default) or "dhcp"
#   kernel     "distribution" (with an initrd; the default) or "slim" (nix/kernel, which tools/build-kernel builds)
#   memory     MiB, and vcpus: what `mvmctl up` gives where it is not told
#   bootBudget what a start may cost, else the build fails: million guest instructions from reset to the agent's hello,
#              or { instructions ? ; warmMilliseconds ? ; } (million; of a start from a snapshot)
#
# Everything here is evaluated without a network and without nixpkgs: the builder's tools do the work.
{ system, tools }:
let
  check = import ./check.nix;
  arguments = [
    "name" "command" "services" "packages" "files" "env" "hostname" "ports" "memory" "vcpus" "spare" "network"
    "kernel" "bootBudget"
  ];
  serviceArguments = [ "command" "user" "cwd" "env" "restart" ];

  # %XX for what would break a line or a field.
  escapeLine = builtins.replaceStrings [ "%" "\n" "\r" "\t" ] [ "%25" "%0A" "%0D" "%09" ];
  escapeField = s: builtins.replaceStrings [ " " ] [ "%20" ] (escapeLine s);
  lines = builtins.concatStringsSep "\n";
  attrsToList = f: set: map (n: f n set.${n}) (builtins.attrNames set);
in
arguments_:
let
  args = check.known "arguments" arguments arguments_;
  name = check.name "name" (args.name or (check.fail "name" "is missing"));
  hostname = check.name "hostname" (args.hostname or name);
  packages = args.packages or [ ];
  ports = args.ports or [ ];
  env = args.env or { };

  # How each kernel finds its devices: what the backend has to know of it.
  kernels = { distribution = "acpi"; slim = "cmdline"; };
  kernelKind = check.oneOf "kernel" (builtins.attrNames kernels) (args.kernel or "distribution");

  services =
    (args.services or { })
    // (if args ? command then { ${name} = { inherit (args) command; restart = "no"; }; } else { });

  envLines = set: attrsToList (n: v: "env ${n}=${escapeLine "${toString v}"}") set;

  serviceLines =
    n: s_:
    let
      where = "services.${n}";
      s = check.known where serviceArguments s_;
    in
    [ "service ${check.name where n}" ]
    ++ map (word: "arg ${escapeLine word}") (check.command "${where}.command" (s.command or null))
    ++ (if s ? user then [ "user ${escapeLine s.user}" ] else [ ])
    ++ (if s ? cwd then [ "cwd ${escapeLine s.cwd}" ] else [ ])
    ++ [
      "restart ${check.oneOf "${where}.restart" [ "no" "on-failure" "always" ] (s.restart or "on-failure")}"
    ]
    ++ envLines (s.env or { });

  guestConf =
    lines (
      (if args ? hostname then [ "hostname ${hostname}" ] else [ ])
      ++ [
        "network ${check.oneOf "network" [ "static" "dhcp" ] (args.network or "static")}"
      ]
      ++ envLines env
      ++ builtins.concatLists (attrsToList serviceLines services)
    )
    + "\n";

  # Files of the image, as mvm-mkrootfs takes them.
  fileLine =
    path: f:
    let
      file = if builtins.isString f then { text = f; } else check.known "files.${path}" [ "text" "source" "mode" ] f;
      mode = file.mode or "0644";
    in
    if builtins.substring 0 1 path != "/" then
      check.fail "files.${path}" "expected an absolute path"
    else if file ? source then
      "file ${mode} ${escapeField path} ${escapeField "${file.source}"}"
    else
      "text ${mode} ${escapeField path} ${escapeField (file.text or (check.fail "files.${path}" "has neither text nor source"))}";

  directories = [
    "0755 /dev" "0755 /proc" "0755 /sys" "0755 /run" "0755 /tmp" "0700 /root" "0755 /var" "0755 /var/log"
    "0755 /var/tmp" "0755 /home" "0755 /mnt" "0755 /etc/mvm" "0755 /usr/local/bin" "0755 /nix/store"
  ];

  baseFiles = {
    "/etc/passwd" = "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n";
    "/etc/group" = "root:x:0:\ntty:x:5:\nnogroup:x:65534:\n";
    "/etc/hosts" = "127.0.0.1 localhost ${hostname}\n::1 localhost\n";
    "/etc/nsswitch.conf" = "passwd: files\ngroup: files\nhosts: files dns\n";
    "/etc/hostname" = "${hostname}\n";
    "/etc/profile" = "export PATH=/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin\n";
    "/etc/os-release" = "ID=mvm\nNAME=mvm\nPRETTY_NAME=\"mvm guest ${name}\"\n";
  };

  spec = lines (
    [
      "label ${builtins.substring 0 16 name}"
      "uuid-from ${name}"
      "time 1"
      "spare ${toString (check.positive "spare" (args.spare or 1) * 1048576)}"
    ]
    ++ map (d: "dir ${d}") directories
    ++ [
      "file 0755 /usr/bin/busybox ${tools}/bin/busybox"
      "file 0755 /usr/sbin/mvm-init ${tools}/bin/mvm-init"
      "link /bin usr/bin"
      "link /sbin usr/sbin"
      "link /lib usr/lib"
      "dir 0755 /usr/lib"
      "text 0644 /etc/mvm/guest.conf ${escapeField guestConf}"
    ]
    ++ attrsToList fileLine (baseFiles // (args.files or { }))
    ++ map (p: "bin /usr/local/bin ${escapeField "${p}"}") packages
  );

  # The builder's kernel, in its store: copied there once, because what it is is known beforehand.
  kernel = derivation {
    name = "mvm-kernel-${kernelKind}";
    inherit system;
    builder = "${tools}/bin/busybox";
    args = [ "sh" "-c" "${tools}/bin/busybox cp -r /usr/share/mvm/kernels/${kernelKind} $out" ];
    outputHashMode = "recursive";
    outputHash = builtins.readFile "${tools}/kernels/${kernelKind}/nar";
    preferLocalBuild = true;
    allowSubstitutes = false;
  };

  # A file that mentions all that the image refers to: its references are the image's closure.
  fileText = f: if builtins.isString f then f else f.text or "";
  mentions = lines ([ guestConf (toString packages) ] ++ attrsToList (_: fileText) (args.files or { }));
  needsClosure = builtins.hasContext mentions;
  roots = derivation {
    name = "${name}-roots";
    inherit system;
    builder = "${tools}/bin/busybox";
    args = [ "sh" "-c" "${tools}/bin/busybox cp \"$textPath\" \"$out\"" ];
    text = mentions;
    passAsFile = [ "text" ];
    allowSubstitutes = false;
  };

  bootBudget =
    let
      b = if builtins.isInt args.bootBudget then { instructions = args.bootBudget; } else args.bootBudget;
      set = check.known "bootBudget" [ "instructions" "warmMilliseconds" ] b;
    in
    if set == { } then
      check.fail "bootBudget" "has neither instructions nor warmMilliseconds"
    else
      builtins.mapAttrs (n: check.positive "bootBudget.${n}") set;

  metadata = builtins.toJSON (
    {
      schema_version = 1;
      inherit name system ports;
      init = "/sbin/mvm-init";
      arguments = [ ];
      agent_protocol = 1;
      kernel_kind = kernelKind;
      devices = kernels.${kernelKind};
    }
    // (if args ? memory then { memory_mib = check.positive "memory" args.memory; } else { })
    // (if args ? vcpus then { vcpus = check.positive "vcpus" args.vcpus; } else { })
    // (
      if args ? bootBudget then
        {
          boot_budget_minstr = bootBudget.instructions or 0;
          boot_budget_warm_ms = bootBudget.warmMilliseconds or 0;
        }
      else
        { }
    )
  );
in
if services == { } && !(args ? services) then
  check.fail "arguments" "neither command nor services say what the VM runs"
else if !(builtins.pathExists "${tools}/bin/mvm-mkrootfs") then
  check.fail "tools" "this library's tools are in the builder image only: build with mvmctl build"
else if kernelKind == "slim" && !(builtins.pathExists "${tools}/kernels/slim/vmlinux.sha256") then
  check.fail "kernel" "the slim kernel has not been built from mvm's present nix/kernel"
else
  derivation (
    {
      name = "${name}-image";
      inherit system spec metadata;
      builder = "${tools}/bin/busybox";
      args = [ "sh" ./build-image.sh ];
      tools = "${tools}";
      inherit kernel;
      passAsFile = [ "spec" "metadata" ];
      preferLocalBuild = true;
      allowSubstitutes = false; # no cache has it: asking costs a round trip, or without a network its retries
    }
    // (if needsClosure then { exportReferencesGraph = [ "graph" roots ]; } else { })
  )
