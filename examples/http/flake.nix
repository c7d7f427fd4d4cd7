# A small web server on port 8080: mvmctl run -p 8080:8080, then curl http://127.0.0.1:8080/
{
  description = "a web server in a microVM";

  inputs.mvm.url = "mvm";

  outputs =
    { self, mvm }:
    let
      system = "x86_64-linux";
    in
    {
      packages.${system}.default = mvm.lib.${system}.mkGuest {
        name = "http";
        ports = [ 8080 ];
        services.httpd = {
          command = [ "httpd" "-f" "-p" 8080 "-h" "/srv/www" ];
          user = "www";
          ready.port = 8080;
        };
        users.www = { };
        files."/srv/www/index.html" = ''
          <!doctype html>
          <title>mvm</title>
          <p>It works: this page comes out of a microVM.</p>
        '';
      };
    };
}
