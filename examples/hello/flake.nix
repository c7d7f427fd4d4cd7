# The smallest useful guest: greets in its log when it starts, and answers `mvmctl exec hello -- hello`.
{
  description = "hello, microVM";

  inputs.mvm.url = "mvm";

  outputs =
    { self, mvm }:
    let
      system = "x86_64-linux";
    in
    {
      packages.${system}.default = mvm.lib.${system}.mkGuest {
        name = "hello";
        command = "hello; exec sleep 1000000000";
        files."/usr/bin/hello" = {
          mode = "0755";
          text = ''
            #!/bin/sh
            echo "Hello from $(hostname), a microVM on Linux $(uname -r)."
          '';
        };
      };
    };
}
