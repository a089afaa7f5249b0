# SPDX-License-Identifier: Apache-2.0
"""`zmq://`: oslo.messaging over ZeroMQ, straight from client to server.

driver      what oslo.messaging calls
incoming    what a service gets: requests, and the inbox of a listener
server      the listening side: one socket, bound, for all listeners
backlog     requests that services have not begun, and senders that wait for room
client      the sending side: one socket, connected to every server in use
sending     how a thread sends one message, to one server or to all
message     a message on its way
routes      the listeners that messages can go to, and how long they wait for one
peer        a server's process and its listeners, as clients see them
sockets     one ZeroMQ socket that the threads of a process share
contexts    the ZeroMQ context of this process
libzmq      sends and receives messages, quickly
names       the addresses of host names
wire        what is in the frames
encryption  which connections are encrypted, and with which keys
keys        CURVE keys that a deployment derives
key_directory   CURVE keys in a directory
gatekeeper  admits clients by their keys
proxy       passes messages on, in a separate process
proxies     how clients find and use proxies
directory   the servers of each topic, kept up to date
matchmaker  where servers register: Redis, or a file
redis_connections  connections to Redis, to Sentinels, and to their master
options     [oslo_messaging_zmq], [matchmaker_redis]
"""
