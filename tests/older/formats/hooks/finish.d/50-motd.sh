#!/bin/sh
echo "built for $GENTOOMUCH_DEFINITION" >/etc/motd
