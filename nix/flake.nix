# The library that user flakes import: inputs.mvm.url = "mvm" (the builder's registry), a path, or a git URL.
{
  description = "mvm: microVM images from Nix flakes";

  # Static programs, kernel and initrd that guests are made of. The builder brings them: its registry knows the name.
  inputs.tools.url = "mvm-tools";

  outputs =
    { self, tools }:
    let
      systems = [ "x86_64-linux" "aarch64-linux" ];
      forAll = f: builtins.listToAttrs (map (system: { name = system; value = f system; }) systems);
    in
    {
      lib = forAll (system: import ./lib { inherit system tools; });
    };
}
