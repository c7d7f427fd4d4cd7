# Types of arguments. A type says in words what it is, and takes a value: what is right comes back in its plain form, the rest is an error
# that has the argument's name, the value and, where something is near, what may have been meant.
let
  inherit (builtins)
    any attrNames concatStringsSep elem elemAt filter genList hasContext head isAttrs isBool isFloat isInt isList isPath isString
    length listToAttrs match replaceStrings split storeDir stringLength substring toJSON typeOf unsafeDiscardStringContext;
in
rec {
  nearest = import ./nearest.nix;
  # where: "services.web.user"; "" is mkGuest itself.
  fail = where: what: throw "mkGuest: ${if where == "" then "" else "${where}: "}${what}";
  at = where: name: (if where == "" then "" else "${where}.") + escaped name;
  escaped = s: substring 1 (stringLength (toJSON s) - 2) (toJSON s); # it stays one line
  meant = guess: if guess == null then "" else ": did you mean ${guess}?";

  show =
    v:
    let
      text = toJSON (unsafeDiscardStringContext v);
      named = {
        set = if v ? outPath then "a package or flake" else "an attribute set";
        list = if v == [ ] then "an empty list" else "a list";
        lambda = "a function";
        null = "null";
        path = "the path ${toString v}";
        string = if stringLength text > 80 then "${substring 0 80 text}...\"" else text;
      };
    in
    named.${typeOf v} or (toJSON v);

  refuse = where: type: v: guess: fail where "expected ${type.is}, got ${show v}${meant guess}";
  startsWith = prefix: s: substring 0 (stringLength prefix) s == prefix;
  # What Nix puts into the store and names by its path there: paths, derivations, flakes and their inputs.
  inStore = v: isPath v || (isAttrs v && v ? outPath);

  # A type whose values are right as they are.
  plain =
    is: right: guess:
    let
      type = {
        inherit is;
        take = where: v: if right v then v else refuse where type v (guess v);
      };
    in
    type;
  noGuess = _: null;
  matches = regex: v: isString v && match regex v != null;
  oneOf =
    words:
    plain (concatStringsSep " or " words) (v: elem v words) (v: if isString v then nearest v words else null);
  boolean = plain "true or false" isBool (v: { "true" = "true"; "yes" = "true"; "false" = "false"; "no" = "false"; }.${if isString v then v else ""} or null);

  number =
    what: least: most:
    plain "${what} from ${toString least} to ${toString most}" (v: isInt v && v >= least && v <= most) (
      v:
      # "512M" where MiB are expected
      let
        digits = if isString v then match "0*([1-9][0-9]{0,8}) *(M|MB|MiB)?" v else null;
      in
      if digits == null then null else elemAt digits 0
    );

  name =
    plain "a name of at most 63 letters, digits, '.', '_', '-', beginning with a letter or digit"
      (matches "[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
      (
        v:
        let
          guess = replaceStrings [ " " "/" ":" "@" "\n" ] [ "-" "-" "-" "-" "" ] v;
        in
        if isString v && matches "[A-Za-z0-9][A-Za-z0-9._-]{0,62}" guess then guess else null
      );
  # As useradd(8) recommends it.
  userName = plain "a name of at most 31 small letters, digits, '_', '-', beginning with a letter or '_'" (
    matches "[a-z_][a-z0-9_-]{0,30}"
  ) noGuess;
  variable = plain "a variable's name of letters, digits, '_', not beginning with a digit" (
    matches "[A-Za-z_][A-Za-z0-9_]*"
  ) (v: let guess = replaceStrings [ "-" "." " " "\n" "=" ] [ "_" "_" "_" "" "" ] v; in if matches "[A-Za-z_][A-Za-z0-9_]*" guess then guess else null);

  mode = plain "a text of three or four octal digits" (matches "[0-7]{3,4}") (
    v:
    let
      digits = if isInt v then toString v else v;
    in
    if !(isString v) && match "[0-7]{3,4}" digits != null then
      "\"${substring 0 (4 - stringLength digits) "0"}${digits}\""
    else
      null
  );

  text = {
    is = "a text";
    take =
      where: v:
      if isString v then
        v
      else if inStore v then
        "${v}" # which brings it into the image; toString would not
      else if isInt v || isFloat v then
        toString v
      else
        refuse where text v (if isBool v then "\"${toJSON v}\"" else null);
  };

  # An absolute path in the guest, in its only form.
  guestPath = {
    is = "an absolute path";
    take =
      where: v_:
      let
        v = if inStore v_ then "${v_}" else v_;
        parts = filter (p: isString p && p != "" && p != ".") (split "/" v);
        right = "/${concatStringsSep "/" parts}";
      in
      if !(isString v) || v == "" || elem ".." parts then
        refuse where guestPath v null
      else if stringLength v > 4095 || any (p: stringLength p > 255) parts then
        fail where "has more than 4095 bytes, or 255 in one name: no file is called so"
      else if v != right then
        refuse where guestPath v (unsafeDiscardStringContext right)
      else
        v;
  };

  # A file or folder that Nix has in its store when the image is made. A plain text is none: nothing would bring it there.
  stored =
    what: guess:
    let
      type = {
        is = "${what}: a path, a derivation, or a text made from one";
        take =
          where: v:
          let
            s = if inStore v then "${v}" else v;
          in
          if isString s && hasContext s && startsWith "${storeDir}/" s then s else refuse where type v (guess v);
      };
    in
    type;

  listOf = inner: rec {
    is = "a list, each member ${inner.is}";
    inherit inner;
    take =
      where: v:
      if isList v then
        genList (i: inner.take "${where}[${toString i}]" (elemAt v i)) (length v)
      else
        refuse where { inherit is; } v (if isAttrs v || isString v || isInt v then "[ ${if isString v then toJSON (unsafeDiscardStringContext v) else if isInt v then toString v else "..."} ]" else null);
  };

  # A set whose names are the user's: { NAME = VALUE; }. word: "NAME", as the documentation calls them.
  setOf = word: names: inner: rec {
    is = "an attribute set";
    inherit inner word;
    take =
      where: v:
      if !(isAttrs v) || v ? outPath then
        refuse where { inherit is; } v null
      else
        listToAttrs (map (n: { name = names.take (at where n) n; value = inner.take (at where n) v.${n}; }) (attrNames v));
  };

  # A set with known names: { NAME = { type; says; default ? ; required ? false; also ? [ words that others use for it ]; }; }.
  record = fields: rec {
    is = "an attribute set";
    inherit fields;
    take =
      where: v:
      let
        names = attrNames fields;
        unknown = filter (n: !(fields ? ${n})) (attrNames v);
        missing = filter (n: fields.${n}.required or false && !(v ? ${n})) names;
        given = filter (n: v ? ${n} || fields.${n} ? default) names;
        taken = n: if v ? ${n} then fields.${n}.type.take (at where n) v.${n} else fields.${n}.default;
        complain =
          n:
          let
            synonyms = filter (f: elem n (fields.${f}.also or [ ])) names;
            near = if synonyms != [ ] then elemAt synonyms 0 else nearest n names;
          in
          fail where "unknown argument '${escaped n}': ${
            if near != null then "did you mean ${near}?" else "known are ${concatStringsSep ", " names}"
          }";
      in
      if !(isAttrs v) then
        refuse where { inherit is; } v null
      else if unknown != [ ] then
        complain (elemAt unknown 0)
      else if missing != [ ] then
        fail where "${elemAt missing 0} is missing"
      else
        listToAttrs (map (n: { name = n; value = taken n; }) given);
  };

  # Either of two types, told apart by a test of the value.
  either = test: yes: no: {
    is = "${yes.is}, or ${no.is}";
    inner = no;
    take = where: v: (if test v then yes else no).take where v;
  };

  # Exactly one of these arguments; they have been taken already.
  exactlyOne =
    where: words: set:
    let
      given = filter (n: set ? ${n}) words;
    in
    if length given == 1 then
      set
    else if given == [ ] then
      fail where "has neither ${concatStringsSep " nor " words}"
    else
      fail where "has both ${concatStringsSep " and " given}: one is enough";

  also = type: more: type // { take = where: v: more where (type.take where v); };

  # At most so many bytes: what Linux or the guest's agent takes. A text's bytes are shown by their number alone.
  atMostBytes =
    most: where: v:
    if stringLength v > most then
      fail where "has ${toString (stringLength v)} bytes, at most ${toString most} are taken"
    else
      v;
  # Of a program's word and of a variable with its name: Linux, include/uapi/linux/binfmts.h, MAX_ARG_STRLEN, less the NUL.
  longestWord = 131071;

  # A program to run: a list of words, a line for the shell, or a file to execute.
  command =
    let
      word = also text (atMostBytes longestWord);
      words = also (listOf word) (
        where: v: if head v == "" then refuse "${where}[0]" { is = "a program"; } "" null else v
      );
      type = {
        is = "a shell line or a list of words";
        take =
          where: v:
          if isList v && v != [ ] then
            words.take where v
          else if isPath v then
            [ "${v}" ]
          else if isString v && match "[ \n\t]*" v == null then
            [ "/bin/sh" "-c" (word.take where v) ]
          else
            refuse where type v (if isAttrs v && v ? outPath then "\"\${...}/bin/${v.meta.mainProgram or "NAME"}\"" else null);
      };
    in
    type;

  # At most so many members: what the guest's agent takes.
  atMost =
    most: what: where: v:
    if length (if isAttrs v then attrNames v else v) > most then
      fail where "has more than ${toString most} ${what}"
    else
      v;
}
