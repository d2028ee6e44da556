"""A real OpenID provider (oidc-provider, from the npm registry) with client credentials and signed access tokens.

    provider = oidc.start(seconds=4)      # tokens live that long
    provider.token_url, provider.jwks_url, provider.CLIENT, provider.SECRET, provider.AUDIENCE
    provider.given()                      # how many tokens it gave out
    provider.stop()
"""

import json
import shutil
import urllib.request

from service import HOME, Process, Service, free_ports, listening, locked, quiet

VERSION = "9.13.3"
PROGRAM = """
import http from 'node:http';
import { generateKeyPairSync } from 'node:crypto';
import Provider from 'oidc-provider';

const [port, seconds, client_id, client_secret, audience] = process.argv.slice(2);
const { privateKey } = generateKeyPairSync('rsa', { modulusLength: 2048 });
let given = 0;
const provider = new Provider(`http://127.0.0.1:${port}`, {
  clients: [{ client_id, client_secret, grant_types: ['client_credentials'], redirect_uris: [], response_types: [],
              token_endpoint_auth_method: 'client_secret_post' }],
  jwks: { keys: [{ ...privateKey.export({ format: 'jwk' }), use: 'sig', alg: 'RS256', kid: 'one' }] },
  scopes: ['read', 'write'], cookies: { keys: ['x'] }, ttl: { ClientCredentials: +seconds },
  features: {
    clientCredentials: { enabled: true }, devInteractions: { enabled: false },
    resourceIndicators: { enabled: true, defaultResource: () => `urn:${audience}`, useGrantedResource: () => true,
      getResourceServerInfo: () => ({ scope: 'read write', audience, accessTokenFormat: 'jwt', jwt: { sign: { alg: 'RS256' } } }) } },
});
provider.on('grant.success', () => { given++; });
const answer = provider.callback();
http.createServer((request, response) => {
  if (request.url === '/given') { response.end(JSON.stringify(given)); } else { answer(request, response); }
}).listen(+port, '127.0.0.1');
"""


def install():
    home = HOME / "oidc"
    with locked(home):
        if not (home / f"installed-{VERSION}").exists():
            if shutil.which("npm") is None:
                raise RuntimeError("the OpenID provider needs Node.js; run tools/deps test")
            (home / "package.json").write_text('{"private":true}')
            quiet("npm", "install", "--no-audit", "--no-fund", "--ignore-scripts", f"oidc-provider@{VERSION}", cwd=home)
            (home / f"installed-{VERSION}").touch()
    return home


class Provider(Service):
    CLIENT, SECRET, AUDIENCE = "app", "app-secret-of-the-test", "kafka"

    def __init__(self, home, seconds):
        super().__init__(home)
        (self.folder / "provider.mjs").write_text(PROGRAM)
        self.port, = free_ports(1)
        self.url = f"http://127.0.0.1:{self.port}"
        self.token_url, self.jwks_url = f"{self.url}/token", f"{self.url}/jwks"
        self.process = Process(["node", "provider.mjs", str(self.port), str(seconds), self.CLIENT, self.SECRET, self.AUDIENCE],
                               self.folder / "provider.log", lambda: listening(self.port), cwd=self.folder)

    def broker(self, listener="oauth"):
        """Settings and JVM options of a broker that takes this provider's tokens alone."""
        name = f"listener.name.{listener}"
        return {
            "settings": {
                f"{name}.oauthbearer.sasl.server.callback.handler.class":
                    "org.apache.kafka.common.security.oauthbearer.OAuthBearerValidatorCallbackHandler",
                f"{name}.oauthbearer.sasl.jaas.config": "org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginModule required;",
                f"{name}.sasl.oauthbearer.jwks.endpoint.url": self.jwks_url,
                f"{name}.sasl.oauthbearer.expected.audience": self.AUDIENCE,
                f"{name}.oauthbearer.connections.max.reauth.ms": "2000",  # a session lives no longer than its token
            },
            "jvm": [f"-Dorg.apache.kafka.sasl.oauthbearer.allowed.urls={self.jwks_url}"],
        }

    def given(self):
        with urllib.request.urlopen(f"{self.url}/given", timeout=30) as answer:
            return json.loads(answer.read())


def start(seconds=600):
    return Provider(install(), seconds)
