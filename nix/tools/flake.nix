# The builder's tools as a flake: bin/ and kernel/ lie beside this file in the builder image (not in the source checkout).
{
  description = "mvm: static tools, kernel and initrd of the builder image";
  outputs = { self }: { };
}
