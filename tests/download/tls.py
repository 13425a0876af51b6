#!/usr/bin/python3
"""An HTTPS server for any name, behind a proxy that knows CONNECT.

    tls.py CERTIFICATE KEY ROOT    stdout: the proxy's port; serves ROOT/HOST/PATH until stdin ends

/.well-known/… below ROOT/HOST; a host without a directory is refused by the proxy. /downgrade redirects to http.
"""
import http.server
import os
import socket
import ssl
import sys
import threading

certificate, key, root = sys.argv[1:]


class Secure(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path.startswith("/downgrade"):
            self.send_response(302)
            self.send_header("Location", "http://127.0.0.1:9/")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        path = os.path.join(root, self.headers["Host"].split(":")[0], self.path.split("?")[0].lstrip("/"))
        try:
            with open(path, "rb") as file:
                body = file.read()
        except OSError:
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


class Proxy(http.server.BaseHTTPRequestHandler):
    def do_CONNECT(self):
        if not os.path.isdir(os.path.join(root, self.path.split(":")[0])):
            self.send_error(502)
            return
        self.send_response(200)
        self.end_headers()
        other = socket.create_connection(secure.server_address)
        back = threading.Thread(target=pump, args=(other, self.connection), daemon=True)
        back.start()
        pump(self.connection, other)
        back.join()
        self.close_connection = True

    def log_message(self, *_):
        pass


def pump(source, sink):
    try:
        while data := source.recv(65536):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)
    except OSError:
        pass


context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(certificate, key)
secure = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Secure)
secure.socket = context.wrap_socket(secure.socket, server_side=True)
proxy = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Proxy)
for server in (secure, proxy):
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
print(proxy.server_address[1], flush=True)
sys.stdin.read()
os._exit(0)
