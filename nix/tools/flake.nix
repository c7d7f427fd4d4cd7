# The builder's tools as a flake: in the builder image (not in the source checkout) bin/ lies beside this file, and
# kernels/KIND/nar is the Nix hash of the kernel in /usr/share/mvm/kernels/KIND.
{
  description = "mvm: static tools of the builder image";
  outputs = { self }: { };
}
