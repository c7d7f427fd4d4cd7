# The known word nearest to what was typed, null where none is near: as src/host/suggest.c does it for the command line.
let
  inherit (builtins) elemAt foldl' genList head length stringLength substring;

  least = a: b: if a < b then a else b;
  characters = s: genList (i: substring i 1 s) (stringLength s);

  # Edit distance (Levenshtein): one row of the table from the one above it, for each character.
  distance =
    a: b:
    let
      columns = characters b;
      cell =
        above: c: row: i:
        row
        ++ [
          (least (least (elemAt above (i + 1)) (elemAt row i) + 1)
            (elemAt above i + (if elemAt columns i == c then 0 else 1)))
        ];
      next = above: c: foldl' (cell above c) [ (head above + 1) ] (genList (i: i) (length columns));
    in
    elemAt (foldl' next (genList (i: i) (length columns + 1)) (characters a)) (length columns);
in
typed: words:
let
  nearer =
    best: word:
    let
      d = distance typed word;
    in
    if d < best.distance then { inherit word; distance = d; } else best;
  none = { word = null; distance = stringLength typed / 3 + 2; };
in
# Long words are far from everything.
(foldl' nearer none (if stringLength typed > 60 then [ ] else words)).word
