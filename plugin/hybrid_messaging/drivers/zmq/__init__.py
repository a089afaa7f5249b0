# SPDX-License-Identifier: Apache-2.0
"""`zmq://`: oslo.messaging over ZeroMQ, straight from client to server.

driver      what oslo.messaging calls
incoming    what a service gets: requests, and the inbox of a listener
server      the listening side: one socket, bound, for all listeners
backlog     what waits for services to begin it, and who waits for room
client      the sending side: one socket, connected to every server in use
sending     a thread's way with one message, to one server or to all
message     a message on its way
routes      whom messages can go to, and how long they wait for somebody
peer        a server's process and its listeners, as clients see them
sockets     one ZeroMQ socket that the threads of a process share
libzmq      sends and receives messages, quickly
wire        what is in the frames
keys        CURVE keys in a directory
gatekeeper  who may connect
proxy       what passes messages on, in a process of its own
proxies     how clients find and use that
directory   who serves which topic, kept up to date
matchmaker  where that is written down: Redis, or a file
options     [oslo_messaging_zmq], [matchmaker_redis]
"""
