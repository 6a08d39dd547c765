# Stands for nixpkgs in the sample: an input of its own that `update` refreshes without a network.
{
  description = "Software of Parley's sample fleet";

  outputs = _: import ./versions.nix;
}
