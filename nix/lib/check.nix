# Argument checks with messages that say what is allowed.
rec {
  fail = where: what: throw "mkGuest: ${where}: ${what}";

  # Attribute sets with known names only.
  known =
    where: names: set:
    let
      unknown = builtins.filter (n: !(builtins.elem n names)) (builtins.attrNames set);
    in
    if !(builtins.isAttrs set) then
      fail where "expected an attribute set"
    else if unknown != [ ] then
      fail where "unknown argument ${builtins.concatStringsSep ", " unknown}; known are ${builtins.concatStringsSep ", " names}"
    else
      set;

  name =
    where: v:
    if builtins.isString v && builtins.match "[A-Za-z0-9][A-Za-z0-9._-]{0,62}" v != null then
      v
    else
      fail where "expected a name of at most 63 letters, digits, '.', '_', '-', beginning with a letter or digit";

  positive = where: v: if builtins.isInt v && v > 0 then v else fail where "expected a positive number";

  oneOf =
    where: words: v:
    if builtins.elem v words then v else fail where "expected ${builtins.concatStringsSep " or " words}";

  # A program to run: a list of words, or a line for the shell.
  command =
    where: v:
    if builtins.isList v && v != [ ] then
      map (word: "${word}") v
    else if builtins.isString v && v != "" then
      [ "/bin/sh" "-c" v ]
    else
      fail where "expected a shell line or a list of words";
}
