"""The certificate authority, leaf certificates and SSL contexts."""
