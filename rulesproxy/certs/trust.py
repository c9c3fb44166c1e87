"""How to make programs and devices trust the certificate authority: one text for the command line and the web page."""

from __future__ import annotations


def trust_steps(pem: str, proxy: str = "PROXY") -> tuple[tuple[str, str], ...]:
    """(where, what to do there) for the PEM file at `pem`; `proxy` is the proxy as `host:port`."""
    return (
        ("curl", f"curl --proxy http://{proxy} --cacert {pem} https://example.com/"),
        ("Debian, Ubuntu", f"sudo cp {pem} /usr/local/share/ca-certificates/rulesproxy.crt && "
                           "sudo update-ca-certificates"),
        ("Fedora, RHEL", f"sudo trust anchor {pem}"),
        ("macOS", f"sudo security add-trusted-cert -d -r trustRoot -k /Library/Keychains/System.keychain {pem}"),
        ("Windows", f"certutil -user -addstore Root {pem}"),
        ("Firefox", f"Settings > Privacy & Security > View Certificates > Authorities > Import… {pem}"),
        ("Chrome, Edge", "they use the system's authorities; on Linux: certutil -d sql:$HOME/.pki/nssdb -A -t C,, "
                         f"-n rulesproxy -i {pem} (from libnss3-tools)"),
        ("Java", f"keytool -importcert -cacerts -storepass changeit -noprompt -alias rulesproxy -file {pem}"),
        ("Python", f"export SSL_CERT_FILE={pem} REQUESTS_CA_BUNDLE={pem}   (instead of the system's authorities)"),
        ("Node.js", f"export NODE_EXTRA_CA_CERTS={pem}"),
        ("git", f"git -c http.proxy=http://{proxy} -c http.sslCAInfo={pem} fetch"),
        ("Android", "open http://rulesproxy.test/ca.crt through the proxy, then Settings > Security > Encryption & "
                    "credentials > Install a certificate > CA certificate; apps see it only if they allow user "
                    "certificates"),
        ("iOS", "open http://rulesproxy.test/ca.crt through the proxy in Safari, install the profile under Settings > "
                "General > VPN & Device Management, then switch it on under General > About > Certificate Trust "
                "Settings"),
    )
