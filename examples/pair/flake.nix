# Two VMs of one network: README.md.
{
  description = "a web server in a microVM that asks another one for its data";

  inputs.mvm.url = "mvm";

  outputs =
    { self, mvm }:
    let
      system = "x86_64-linux";
      inherit (mvm.lib.${system}) mkGuest;
      httpd = port: [ "httpd" "-f" "-p" port "-h" "/srv" ];
      script = text: {
        mode = "0755";
        text = "#!/bin/sh\n" + text;
      };
    in
    {
      packages.${system} = {
        # Counts visits, for whoever asks.
        db = mkGuest {
          name = "db";
          services.db = {
            command = httpd 7000;
            user = "db";
            ready.port = 7000;
          };
          users.db = { };
          files."/srv/cgi-bin/visit" = script ''
            echo visit >> /tmp/visits
            printf 'Content-Type: text/plain\r\n\r\n%s\n' "$(wc -l < /tmp/visits)"
          '';
        };
        # Has no data of its own. It knows the other one by name.
        web = mkGuest {
          name = "web";
          ports = [ 8080 ];
          services.web = {
            command = httpd 8080;
            user = "www";
            ready.port = 8080;
          };
          users.www = { };
          files."/srv/cgi-bin/index.cgi" = script ''
            if n=$(wget -qO- -T 5 http://db:7000/cgi-bin/visit); then
              said="visit number $n, says the VM db"
            else
              said="the VM db does not answer"
            fi
            printf 'Content-Type: text/html\r\n\r\n'
            printf '<!doctype html>\n<title>pair</title>\n<p id="said">%s</p>\n' "$said"
            echo '<script>document.title = "pair: " + said.textContent</script>'
          '';
        };
      };
    };
}
