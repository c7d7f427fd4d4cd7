# /etc/passwd and /etc/group: who is in every image, and whom users and groups declare. check: check.nix.
{ check, users, groups }:
let
  inherit (builtins) attrNames attrValues concatStringsSep elem elemAt filter foldl' length listToAttrs seq;
  each = set: f: listToAttrs (map (name: { inherit name; value = f name set.${name}; }) (attrNames set));

  baseUsers = {
    root = { uid = 0; gid = 0; home = "/root"; shell = "/bin/sh"; };
    nobody = { uid = 65534; gid = 65534; home = "/"; shell = "/bin/false"; };
  };
  baseGroups = { root = 0; tty = 5; nogroup = 65534; };

  # Numbers for all of a set: what a member says, which must be its own, else the first free one from `from` on, in the order of names.
  number =
    where: base: set:
    let
      said = filter (n: set.${n} ? id) (attrNames set);
      take =
        ids: n:
        let
          same = filter (o: ids.${o} == set.${n}.id) (attrNames ids);
        in
        if base ? ${n} then
          check.fail "${where}.${n}" "is in every image"
        else if same != [ ] then
          check.fail "${where}.${n}" "has the number ${toString set.${n}.id}, which is that of ${elemAt same 0}"
        else
          ids // { ${n} = set.${n}.id; };
      free = ids: id: if elem id (attrValues ids) then free ids (id + 1) else id;
      give = ids: n: if base ? ${n} then take ids n else ids // { ${n} = free ids set.${n}.from or 1000; };
    in
    foldl' give (foldl' take base said) (filter (n: !(elem n said)) (attrNames set));
  numbered = what: v: if v ? ${what} then { id = v.${what}; } else { };

  # A name that must be declared.
  declared =
    kind: names: where: name:
    if elem name names then
      name
    else
      let
        near = check.nearest name names;
      in
      check.fail where "no ${kind} ${name} is declared${check.meant (if near == null then "${kind}s.${name} = { }" else near)}";

  uids = number "users" (each baseUsers (_: u: u.uid)) (each users (_: numbered "uid"));
  # A user without a group has one of its own name, and of its own number where that is free.
  own = listToAttrs (
    map (name: { inherit name; value.from = uids.${name}; }) (
      filter (n: !(groups ? ${n}) && users.${n}.group or n == n) (attrNames users)
    )
  );
  gids = seq uids number "groups" baseGroups (own // each groups (_: numbered "gid"));

  # The agent reads so many.
  memberships = n: filter (g: elem n (groups.${g}.members or [ ])) (attrNames groups);
  few = n: v: if length (memberships n) > 32 then check.fail "users.${n}" "is in more than 32 groups" else v;

  made = each users (
    n: u: few n {
      uid = uids.${n};
      gid = gids.${declared "group" (attrNames gids) "users.${n}.group" (u.group or n)};
      home = u.home or "/home/${n}";
      shell = u.shell or "/bin/sh";
    }
  );
  all = baseUsers // made;
  user = declared "user" (attrNames all);
  members = n: concatStringsSep "," (map (user "groups.${n}.members") (groups.${n}.members or [ ]));
  table = set: line: concatStringsSep "" (attrValues (each set (n: v: "${line n v}\n")));
in
{
  passwd = table all (n: u: "${n}:x:${toString u.uid}:${toString u.gid}:${n}:${u.home}:${u.shell}");
  group = table gids (n: gid: "${n}:x:${toString gid}:${members n}");
  # The declared users, whose homes are made where the image has none.
  homes = attrValues made;
  # user WHERE NAME: the name, where there is such a user.
  inherit user;
}
