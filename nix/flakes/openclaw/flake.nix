{
  description = "OpenClaw as a worker, and the gateway that routes to it";

  # What the host prepared: a static busybox, and the npm package openclaw with all it needs, at the
  # version and content that mvm pins.
  inputs.tools = {
    url = "path:/mvm/tools";
    flake = false;
  };
  inputs.openclaw = {
    url = "path:/mvm/openclaw";
    flake = false;
  };

  outputs =
    {
      self,
      tools,
      openclaw,
    }:
    let
      system = "x86_64-linux";
      run =
        name: script: extra:
        derivation (
          {
            inherit name system;
            builder = "${tools}/busybox";
            args = [
              "sh"
              "-euc"
              ''
                busybox=${tools}/busybox
                ${script}
              ''
            ];
          }
          // extra
        );
    in
    {
      packages.${system} = {
        default = run "openclaw" ''
          $busybox mkdir -p $out/bin $out/lib
          $busybox tar -xf ${openclaw}/openclaw.tar -C $out/lib
          $busybox cp $start $out/lib/start.mjs
          $busybox cp $secrets $out/lib/secrets.mjs
          # The guest base has Node and a shell.
          $busybox printf '#!/bin/sh\nexec /usr/bin/node %s/lib/start.mjs\n' $out >$out/bin/openclaw-start
          $busybox printf '#!/bin/sh\nexec /usr/bin/node %s/lib/node_modules/openclaw/openclaw.mjs "$@"\n' \
            $out >$out/bin/openclaw
          $busybox chmod 755 $out/bin/openclaw-start $out/bin/openclaw
        '' {
          start = ./start.mjs;
          secrets = ./secrets.mjs;
        };

        # The gateway's program is part of the guest base for its role: nothing to add.
        gateway = run "openclaw-gateway" ''
          $busybox mkdir -p $out/bin
        '' { };
      };
    };
}
