# mkGuest: from a command or services to vmlinux, rootfs.ext4, initrd, cmdline.txt and image.json. arguments.nix has what it takes,
# docs/images.md what that means.
#
# Everything here is evaluated without a network and without nixpkgs: the builder's tools do the work.
{ system, tools }:
let
  inherit (builtins)
    attrNames concatLists concatStringsSep deepSeq filter hasContext match pathExists replaceStrings stringLength
    substring;
  check = import ./check.nix;
  arguments = import ./arguments.nix check;

  # %XX for what would break a line or a field.
  escapeLine = replaceStrings [ "%" "\n" "\r" "\t" ] [ "%25" "%0A" "%0D" "%09" ];
  escapeField = s: replaceStrings [ " " ] [ "%20" ] (escapeLine s);
  lines = concatStringsSep "\n";
  eachOf = set: f: map (n: f n set.${n}) (attrNames set);
in
arguments_:
let
  args = arguments.take "" arguments_;
  inherit (args) name;
  hostname = args.hostname or name;

  # `devices` is how an mvmctl from before `kernel_offers` gives a kernel its devices. With less MiB than `least` mvmctl boots none.
  kernels = {
    distribution = { devices = "acpi"; least = 96; };
    slim = { devices = "cmdline"; least = 64; };
  };
  kernelOf = kernels.${args.kernel};
  # What the backend chooses the devices by, found out where the kernel was made; nothing where its configuration is not known.
  offers = filter (o: builtins.isString o && o != "") (builtins.split "\n" (builtins.readFile "${tools}/kernels/${args.kernel}/offers"));

  # The agent takes no more, with the one that `command` is short for.
  services = check.atMost 64 "services" "services" (
    if !(args ? command) then
      args.services
    else if args.services ? ${name} then
      check.fail "services.${name}" "command is short for this service already: one is enough"
    else
      args.services // { ${name} = { inherit (args) command; user = "root"; env = { }; restart = "no"; }; }
  );

  accounts = import ./users.nix { inherit check; inherit (args) users groups; };
  declares = args.users != { } || args.groups != { };
  # The image's own list of users, by hand.
  ownList = filter (f: args.files ? ${f}) [ "/etc/passwd" "/etc/group" ];
  # A number needs no entry, and who may be in an own list is not known here.
  runsAs =
    n: user:
    if match "[0-9]+" user != null || ownList != [ ] || args.files ? "/etc" then
      user
    else
      accounts.user "services.${n}.user" user;

  # ---- /etc/mvm/guest.conf: what the agent does (docs/architecture.md) ----

  envLines = set: eachOf set (n: v: "env ${n}=${escapeLine v}");
  readyLines =
    n: ready:
    if ready ? port then
      [ "ready port ${toString ready.port}" ]
    else if ready ? notify then
      [ "ready notify" ]
    else if ready ? command then
      [ "ready command" ] ++ words "ready-arg" "services.${n}.ready.command" ready.command
    else
      [ ];
  words = key: where: list: map (word: "${key} ${escapeLine word}") (check.atMost 1000 "words" where list);
  serviceLines =
    n: s:
    [ "service ${n}" ]
    ++ words "arg" "services.${n}.command" s.command
    ++ [ "user ${runsAs n s.user}" "restart ${s.restart}" ]
    ++ (if s ? cwd then [ "cwd ${escapeLine s.cwd}" ] else [ ])
    ++ readyLines n (s.ready or { })
    ++ envLines s.env;
  guestConf =
    let
      text =
        lines (
          (if args ? hostname then [ "hostname ${hostname}" ] else [ ])
          ++ [ "network ${args.network.address}" ]
          ++ envLines args.env
          ++ concatLists (eachOf services serviceLines)
        )
        + "\n";
    in
    if stringLength text > 1048576 then
      check.fail "services" "commands and variables have more than 1 MiB together: put them into files"
    else
      text;

  # ---- The root file system, as mvm-mkrootfs takes it ----

  textLine = mode: path: text: "text ${mode} ${escapeField path} ${escapeField text}";
  directories = [
    "0755 /dev" "0755 /proc" "0755 /sys" "0755 /run" "0755 /tmp" "0700 /root" "0755 /var" "0755 /var/log"
    "0755 /var/tmp" "0755 /home" "0755 /mnt" "0755 /etc/mvm" "0755 /usr/local/bin" "0755 /nix/store"
  ];
  accountFiles = {
    "/etc/passwd" = accounts.passwd;
    "/etc/group" = accounts.group;
  };
  baseFiles = (if declares then { } else accountFiles) // {
    "/etc/hosts" = "127.0.0.1 localhost ${hostname}\n::1 localhost\n";
    "/etc/nsswitch.conf" = "passwd: files\ngroup: files\nhosts: files dns\n";
    "/etc/profile" = "export PATH=/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin\n";
    "/etc/os-release" = "ID=mvm\nNAME=mvm\nPRETTY_NAME=\"mvm guest ${name}\"\n";
  };
  # No folder among the user's files may have one of these: its own would be lost without a word.
  ownFiles = (if declares then accountFiles else { }) // {
    "/etc/hostname" = "${hostname}\n";
    "/etc/mvm/guest.conf" = guestConf;
  };
  reserved =
    (if declares then builtins.mapAttrs (_: _: "users and groups say who there is") accountFiles else { }) // arguments.ownFiles;
  own =
    eachOf reserved (path: why: "absent ${escapeField path} ${escapeLine why}")
    ++ [ "file 0755 /usr/sbin/mvm-init ${tools}/bin/mvm-init" ]
    ++ ownTexts;
  ownTexts = eachOf ownFiles (textLine "0644");
  baseTexts =
    eachOf baseFiles (textLine "0644")
    ++ map (u: "home ${escapeField u.home} ${toString u.uid} ${toString u.gid}") accounts.homes;
  base =
    [
      "label ${substring 0 16 name}"
      "uuid-from ${name}"
      "time 1"
      "spare ${toString (args.spare * 1048576)}"
    ]
    ++ map (d: "dir ${d}") directories
    ++ [
      "file 0755 /usr/bin/busybox ${tools}/bin/busybox"
      "dir 0755 /usr/sbin"
      "link /bin usr/bin"
      "link /sbin usr/sbin"
      "link /lib usr/lib"
      "dir 0755 /usr/lib"
    ]
    ++ baseTexts;

  # The user's part of it, and what it copies from the store; files come last and win.
  fileLine =
    path: f:
    if f ? text then
      textLine (f.mode or "0644") path f.text
    else if f ? mode then
      "file ${f.mode} ${escapeField path} ${escapeField f.source}"
    else
      "copy ${escapeField path} ${escapeField f.source}";
  content =
    map (p: "bin /usr/local/bin ${escapeField p}") args.packages
    ++ eachOf (removeSources args.files) fileLine;
  copies = eachOf (onlySources args.files) fileLine;
  pick = test: set: removeAttrs set (filter (n: !(test set.${n})) (attrNames set));
  onlySources = pick (f: f ? source);
  removeSources = pick (f: f ? text);

  # The closure of all that the image refers to: Nix finds the references of a file that has the text of it, of the base's texts as of the
  # user's: a user's shell is in /etc/passwd. What is only copied need not lie in the image's store as well, but what it refers to does.
  references =
    what: text:
    derivation {
      name = "${name}-${what}";
      inherit system text;
      builder = "${tools}/bin/busybox";
      args = [ "sh" "-c" "${tools}/bin/busybox cp \"$textPath\" \"$out\"" ];
      passAsFile = [ "text" ];
      allowSubstitutes = false;
    };
  graph = what: list: if hasContext (lines list) then [ what (references what (lines list)) ] else [ ];
  graphs = graph "graph" (baseTexts ++ ownTexts ++ content) ++ graph "copies" copies;

  # The builder's kernel, in its store: copied there once, because what it is is known beforehand.
  kernel = derivation {
    name = "mvm-kernel-${args.kernel}";
    inherit system;
    builder = "${tools}/bin/busybox";
    args = [ "sh" "-c" "${tools}/bin/busybox cp -r /usr/share/mvm/kernels/${args.kernel} $out" ];
    outputHashMode = "recursive";
    outputHash = builtins.readFile "${tools}/kernels/${args.kernel}/nar";
    preferLocalBuild = true;
    allowSubstitutes = false;
  };

  metadata = builtins.toJSON (
    {
      schema_version = 1;
      inherit name system;
      inherit (args) ports;
      init = "/sbin/mvm-init";
      arguments = [ ];
      agent_protocol = 1;
      kernel_kind = args.kernel;
      inherit (kernelOf) devices;
    }
    // (if offers != [ ] then { kernel_offers = offers; } else { })
    // (
      if args.network ? policy || args.network.allow != [ ] then
        { network = removeAttrs args.network [ "address" ]; }
      else
        { }
    )
    // (if args ? memory then { memory_mib = args.memory; } else { })
    // (if args ? vcpus then { inherit (args) vcpus; } else { })
    // (
      if args ? bootBudget then
        {
          boot_budget_minstr = args.bootBudget.instructions or 0;
          boot_budget_warm_ms = args.bootBudget.warmMilliseconds or 0;
        }
      else
        { }
    )
  );
  image = derivation (
    {
      name = "${name}-image";
      inherit system metadata;
      # Texts come last, so that a file may lie in a folder that was copied.
      spec = lines (base ++ copies ++ own ++ content);
      builder = "${tools}/bin/busybox";
      args = [ "sh" ./build-image.sh ];
      tools = "${tools}";
      inherit kernel;
      passAsFile = [ "spec" "metadata" ];
      preferLocalBuild = true;
      allowSubstitutes = false; # no cache has it: asking costs a round trip, or without a network its retries
    }
    // (if graphs != [ ] then { exportReferencesGraph = graphs; } else { })
  );
in
# All arguments are looked at before anything is made of one.
deepSeq [ args accounts guestConf ] (
  if services == { } && !(arguments_ ? services) then
    check.fail "" "neither command nor services say what the VM runs"
  else if ownList != [ ] && declares then
    check.fail "users" "files.${builtins.head ownList} says already who there is: one is enough"
  else if args ? memory && args.memory < kernelOf.least then
    check.fail "memory" "the ${args.kernel} kernel needs ${toString kernelOf.least} MiB to boot, got ${toString args.memory}"
  else if !(pathExists "${tools}/bin/mvm-mkrootfs") then
    check.fail "tools" "this library's tools are in the builder image only: build with mvmctl build"
  else if args.kernel == "slim" && !(pathExists "${tools}/kernels/slim/vmlinux.sha256") then
    check.fail "kernel" "the slim kernel has not been built from mvm's present nix/kernel"
  else
    image
)
