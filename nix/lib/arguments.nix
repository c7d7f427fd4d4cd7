# What mkGuest takes: the table from which arguments are checked. docs/images.md shows each of them; a test compares the two.
check:
let
  inherit (check)
    also at atMost atMostBytes command either exactlyOne fail guestPath inStore listOf longestWord mode name number oneOf plain record setOf startsWith stored text
    userName variable;
  inherit (builtins) any attrNames elemAt filter isInt isString mapAttrs match seq;

  package = stored "a package" (
    v: if isString v && match "[a-zA-Z0-9_.-]+" v != null then "pkgs.${v}" else null
  );
  source = stored "a file or folder" (
    v:
    if !(isString v) then
      null
    else if any (prefix: startsWith prefix v) [ "./" "../" "/" ] then
      "the path ${v}, without quotes"
    else
      "text = ..."
  );

  # More than these the agent does not take (MSG_MAX_ARGS for the image's and a service's together).
  environment = also (also (setOf "NAME" variable text) (atMost 500 "variables")) (
    where: mapAttrs (n: v: seq (atMostBytes longestWord (at where n) "${n}=${v}") v)
  );

  # 65534 is nobody's. The name of who runs something must be declared, a number need not be.
  id = least: number "a number" least 4294967293;
  account = either isInt (id 0 // { take = where: v: toString ((id 0).take where v); }) userName;
  # A line of /etc/passwd has fields that end at a colon, and the agent takes as many bytes.
  field = also (also guestPath (atMostBytes 255)) (
    where: v: if match "[^:\n]*" v == null then fail where "expected a path without ':' and newlines" else v
  );
  # Where a folder is made for a user, unless the guest has one there.
  home = also field (where: path: if match "/[^/]*" path != null then path else visible where path);
  user = record {
    uid = { type = id 1; };
    group = { type = userName; };
    home = { type = home; };
    shell = { type = field; };
  };
  group = record {
    gid = { type = id 1; };
    members = { type = also (listOf userName) (atMost 100 "members"); default = [ ]; };
  };

  # What mkGuest and the guest's agent write themselves: another file would have no effect there, or nothing would start.
  ownFiles =
    let
      agents = "the guest's agent writes it when it starts";
    in
    {
      "/etc/hostname" = "mkGuest writes it: did you mean hostname?";
      "/etc/machine-id" = agents;
      "/etc/mvm/guest.conf" = "mkGuest writes it of command, services and env";
      "/etc/resolv.conf" = agents;
      "/usr/sbin/mvm-init" = "it is the guest's agent";
    };

  # A file of the image lies where the guest sees it: not below what is mounted when it starts, nor behind a link, nor where it is replaced.
  filePath = also guestPath (
    where: path:
    if path == "/" then fail where "expected the path of a file or folder below /" else visible where path
  );
  visible =
    where: path:
    let
      top = elemAt (match "(/[^/]*).*" path) 0;
      isIn = any (d: top == d);
      own = filter (f: path == f || startsWith "${f}/" path) (attrNames ownFiles);
    in
    if own != [ ] then
      fail where ownFiles.${elemAt own 0}
    else if isIn [ "/dev" "/proc" "/run" "/sys" "/tmp" ] then
      fail where "the guest would not see it: it mounts ${top} when it starts"
    else if isIn [ "/bin" "/lib" "/sbin" ] then
      fail where "${top} is a link to usr${top}: did you mean /usr${path}?"
    else
      path;

  file =
    let
      short = text // {
        is = "a text or a path";
        take = where: v: if isString v then { text = v; } else { source = source.take where v; };
      };
      long = record {
        text = { type = text; };
        source = { type = source; also = [ "path" "src" "file" ]; };
        mode = { type = mode; also = [ "permissions" "perm" ]; };
      };
    in
    either (v: isString v || inStore v) short (also long (where: exactlyOne where [ "text" "source" ]));

  service = record {
    command = { type = command; required = true; also = [ "cmd" "exec" "script" "run" ]; };
    user = { type = account; default = "root"; };
    cwd = { type = guestPath; also = [ "workingDirectory" "dir" ]; };
    env = { type = environment; default = { }; also = [ "environment" ]; };
    restart = { type = oneOf [ "no" "on-failure" "always" ]; default = "on-failure"; };
    ready = { type = also readiness (where: exactlyOne where [ "port" "command" "notify" ]); };
  };
  readiness = record {
    port = { type = number "a port" 1 65535; };
    command = { type = command; also = [ "cmd" "exec" ]; };
    notify = { type = plain "true" (v: v == true) (_: null); };
  };

  network =
    let
      address = oneOf [ "static" "dhcp" ];
      long = record {
        address = { type = address; default = "static"; };
        policy = { type = oneOf [ "public" "none" "full" ]; };
        allow = { type = also (listOf rule) (atMost 32 "rules"); default = [ ]; };
      };
      some =
        where: set:
        if set.allow != [ ] && set.policy or "" == "none" then
          fail where "has rules in allow, and the policy none, which allows nothing: leave the policy out"
        else
          set;
    in
    either isString (address // { take = where: v: { address = address.take where v; allow = [ ]; }; }) (also long some);
  # What it is exactly is read when the image is built (src/net/rule.c).
  rule = plain "a rule such as \"example.org:443\"" (v: isString v && match "[]A-Za-z0-9.:*/_[-]+" v != null) (_: null);

  budget =
    let
      instructions = number "million instructions" 1 1000000000;
      limits = record {
        instructions = { type = instructions; };
        warmMilliseconds = { type = number "milliseconds" 1 1000000000; };
      };
      some =
        where: set:
        if set == { } then fail where "has neither instructions nor warmMilliseconds" else set;
    in
    either isInt (instructions // { take = where: v: { instructions = instructions.take where v; }; }) (
      also limits some
    );
in
record {
  name = { type = name; required = true; };
  command = { type = command; also = [ "cmd" "entrypoint" "exec" "script" ]; };
  services = { type = also (setOf "NAME" name service) (atMost 64 "services"); default = { }; };
  packages = { type = listOf package; default = [ ]; also = [ "contents" "systemPackages" ]; };
  files = { type = setOf "PATH" filePath file; default = { }; };
  env = { type = environment; default = { }; also = [ "environment" ]; };
  users = { type = setOf "NAME" userName user; default = { }; };
  groups = { type = setOf "NAME" userName group; default = { }; };
  hostname = { type = name; };
  ports = { type = listOf (number "a port" 1 65535); default = [ ]; };
  network = { type = network; default = { address = "static"; allow = [ ]; }; };
  kernel = { type = oneOf [ "distribution" "slim" ]; default = "distribution"; };
  memory = { type = number "MiB" 64 16777216; also = [ "mem" "memory_mib" "ram" ]; };
  vcpus = { type = number "a number of processors" 1 64; also = [ "cpus" "cpu" ]; };
  spare = { type = number "MiB" 1 4096; default = 1; };
  bootBudget = { type = budget; };
}
// {
  inherit ownFiles;
}
