{ system, tools }:
{
  # A bootable microVM image: see mk-guest.nix for what it takes.
  mkGuest = import ./mk-guest.nix { inherit system tools; };
}
