{
  description = "A tiny HTTP worker: an example and a test";

  # What the host prepared for every build; it holds a static busybox.
  inputs.tools = {
    url = "path:/mvm/tools";
    flake = false;
  };

  outputs =
    { self, tools }:
    let
      package =
        system:
        derivation {
          name = "hello";
          inherit system;
          builder = "${tools}/busybox";
          src = ./hello.mjs;
          args = [
            "sh"
            "-euc"
            ''
              busybox=${tools}/busybox
              $busybox mkdir -p $out/bin $out/lib
              $busybox cp $src $out/lib/hello.mjs
              # The guest base has Node and a shell.
              $busybox printf '#!/bin/sh\nexec /usr/bin/node %s/lib/hello.mjs\n' $out >$out/bin/hello
              $busybox chmod 755 $out/bin/hello
            ''
          ];
        };
    in
    {
      packages.x86_64-linux.default = package "x86_64-linux";
    };
}
