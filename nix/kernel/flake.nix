# The slim kernel as a flake output, built in the builder VM's sandbox from nothing but what lies beside this file.
# tools/kernel-flake DIR makes a copy of this folder with the two archives. Under software emulation that takes most of a day;
# tools/build-kernel runs the same build.sh natively.
{
  description = "mvm: the slim kernel for guests";

  inputs.tools.url = "mvm-tools";

  outputs =
    { self, tools }:
    let
      system = "x86_64-linux";
      archive =
        name:
        if builtins.pathExists "${self}/${name}" then
          "${self}/${name}"
        else
          throw "the slim kernel's flake has no ${name} beside it: tools/kernel-flake DIR makes one that has";
    in
    {
      # vmlinux and the configuration in full.
      packages.${system}.slim = derivation {
        name = "mvm-slim-kernel";
        inherit system;
        builder = "${tools}/bin/busybox";
        args = [ "sh" "${self}/sandbox.sh" ];
        busybox = "${tools}/bin/busybox";
        recipe = "${self}";
        config = "slim-x86_64.config";
        sourceArchive = archive "source.tar.gz";
        toolchain = archive "toolchain.tar.gz";
      };
    };
}
