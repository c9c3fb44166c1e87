"""Words other tools use for what is called differently here, for "did you mean"."""

from __future__ import annotations

FILE_WORDS = {
    "variables": "vars", "env": "vars", "imports": "include", "includes": "include", "import": "include",
    "routes": "rules", "mocks": "rules", "stubs": "rules", "mappings": "rules", "handlers": "rules",
    "interceptors": "rules", "lists": "sets", "environments": "profiles", "default": "defaults", "checks": "tests",
}  # fmt: skip

RULE_WORDS = {
    "id": "name", "title": "name", "when": "match", "if": "match", "matches": "match", "condition": "match",
    "conditions": "match", "matcher": "match", "filter": "match", "request": "match", "not": "unless",
    "except": "unless", "exclude": "unless", "then": "action", "do": "action", "actions": "action",
    "response": "action", "handler": "action", "steps": "action", "weight": "priority", "order": "priority",
    "active": "enabled", "disabled": "enabled", "isActive": "enabled", "final": "stop", "last": "stop",
    "labels": "tags", "comment": "description", "note": "description", "author": "owner", "environment": "profile",
}  # fmt: skip

MATCH_WORDS = {
    "hosts": "host", "hostname": "host", "hostnames": "host", "server": "host", "authority": "host",
    "domains": "domain", "host_suffix": "domain", "urlPath": "path", "pathname": "path", "uri": "path", "route": "path",
    "url_path": "path", "pathPrefix": "path_prefix", "prefix": "path_prefix", "starts_with": "path_prefix",
    "url_pattern": "path", "urlPattern": "path", "url_regex": "path_regex", "urlRegex": "path_regex",
    "pathRegexp": "path_regex", "url_match": "path", "urlFilter": "path", "regex": "path_regex",
    "methods": "method", "verb": "method", "httpMethod": "method", "requestMethods": "method",
    "protocol": "scheme", "ports": "port", "params": "query", "queryParameters": "query", "query_params": "query",
    "querystring": "query", "header": "headers", "requestHeaders": "headers", "request_headers": "headers",
    "cookie": "cookies", "statusCode": "status", "status_code": "status", "code": "status",
    "responseHeaders": "response_headers", "ip": "client_ip", "source_ip": "client_ip", "src": "client_ip",
    "remote_addr": "client_ip", "client": "client_ip", "server_name": "sni", "qtype": "dns_type",
    "record_type": "dns_type", "rrtype": "dns_type", "and": "all", "allOf": "all", "or": "any", "anyOf": "any",
    "except": "not", "exclude": "not", "without": "not", "in": "host_in", "host_set": "host_in",
    "payload": "text", "message": "text", "data": "text", "content": "text", "body_text": "text",
    "jsonpath": "json_path", "jsonPath": "json_path", "matchesJsonPath": "json_path", "jq": "json_path",
    "equalToJson": "json", "hex": "bytes", "binary": "bytes", "raw": "bytes", "from_client": "direction",
    "fromClient": "direction", "side": "direction", "message_type": "opcode", "frame_type": "opcode",
}  # fmt: skip

ACTION_WORDS = {
    "mapRemote": "map_remote", "map-remote": "map_remote", "mapLocal": "map_local", "map-local": "map_local",
    "file": "map_local", "serve": "map_local", "mock": "respond", "reply": "respond", "return": "respond",
    "fulfill": "respond", "response": "respond", "resBody": "respond", "abort": "block", "deny": "block",
    "reject": "block", "drop": "block", "cancel": "block", "refuse": "block", "blacklist": "block",
    "modify_headers": "rewrite", "modifyHeaders": "rewrite", "setHeaders": "rewrite", "set_headers": "rewrite",
    "add_headers": "rewrite", "headers": "rewrite", "replace": "rewrite", "modify": "rewrite", "transform": "rewrite",
    "proxy_pass": "redirect_server", "forward": "redirect_server", "upstream": "redirect_server",
    "target": "redirect_server", "host": "redirect_server", "connect_to": "redirect_server", "proxy": "redirect_server",
    "redirect_to": "redirect", "location": "redirect", "301": "redirect", "302": "redirect",
    "dns": "spoof_dns", "dns_spoof": "spoof_dns", "resolve": "spoof_dns", "hosts": "spoof_dns", "latency": "delay",
    "sleep": "delay", "wait": "delay", "passthrough": "pass", "allow": "pass", "ignore": "pass", "bypass": "pass",
    "continue": "pass", "skip": "pass", "ssl": "tls", "decrypt": "tls", "intercept": "tls", "label": "tag",
    "mark": "tag", "print": "log", "ws": "websocket", "wss": "websocket", "websockets": "websocket",
    "message": "websocket", "send": "websocket", "inject": "websocket", "socket": "tcp", "stream": "tcp",
    "datagram": "udp", "via": "upstream_proxy", "socks5": "upstream_proxy", "socks": "upstream_proxy",
    "http_proxy": "upstream_proxy", "parent_proxy": "upstream_proxy", "upstreamProxy": "upstream_proxy",
}  # fmt: skip

REPLACEMENT_WORDS = {
    "from": "text", "find": "text", "search": "text", "old": "text", "string": "text", "pattern": "regex",
    "regexp": "regex", "to": "with", "replacement": "with", "replace": "with", "new": "with", "value": "with",
    "by": "with", "case_insensitive": "ignore_case",
}  # fmt: skip

MESSAGE_WORDS = {
    "set": "replace", "rewrite": "replace", "modify": "replace", "substitute": "replace", "content": "replace",
    "text": "replace", "block": "drop", "discard": "drop", "ignore": "drop", "inject": "send", "reply": "send",
    "respond": "send", "answer": "send", "insert": "send", "end": "close", "disconnect": "close", "reset": "close",
    "kill": "close", "code": "close",
}  # fmt: skip

SEND_WORDS = {
    "direction": "to", "side": "to", "target": "to", "content": "text", "message": "text", "data": "text",
    "body": "text", "payload": "text", "hex": "bytes", "binary": "bytes", "base64": "bytes",
}  # fmt: skip

UPSTREAM_PROXY_WORDS = {
    "proxy": "url", "to": "url", "server": "url", "host": "url", "address": "url", "via": "url", "username": "auth",
    "user": "auth", "password": "auth", "credentials": "auth", "login": "auth",
}  # fmt: skip

MAP_LOCAL_WORDS = {"file": "path", "folder": "path", "dir": "path", "directory": "path", "root": "path", "to": "path"}

RESPOND_WORDS = {
    "code": "status", "statusCode": "status", "text": "body", "content": "body", "data": "body", "html": "body",
    "header": "headers", "path": "file", "bodyFile": "file", "body_file": "file", "jsonBody": "json",
}  # fmt: skip

#: Words of the rule language that this version does not read yet.
NOT_YET = {
    "file": ("secrets",),
    "rule": ("times", "until"),
    "match": ("server_ip", "extension", "url", "request_type", "http_version", "body", "response_cookies",
              "response_type", "response_body", "response_source", "user", "alpn", "tls_version", "chance",
              "nth", "schedule", "state", "tagged"),
    "action": ("throttle", "fault", "state"),
}  # fmt: skip
