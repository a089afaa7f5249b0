# SPDX-License-Identifier: Apache-2.0
"""The oslo.messaging drivers: all that a service imports of this package.

amqp/       `amqp://`
zmq/        `zmq://`
migrate/    `migrate+…://`: two buses as one
opts        the options of all

They use:

driver      what oslo.messaging calls of each, guarded against interrupts and forks
oslo        oslo.messaging's driver interface; imported nowhere else
bodies      requests, notifications and replies as JSON text
errors      why a message did not get through: what callers catch
timeouts    the times that callers give, checked
patience    how long callers wait for a target that nobody listens on
presence    whether somebody listens on a target
tls_files   what is wrong with files that options for TLS name
listeners   what oslo.messaging's servers get from a driver
seen        the ids of messages that came in lately
turns       which thread reads a socket
combining   a lock whose holder does the work of others, too
waiter      one thread waits, another wakes it
reentry     refuses what signal handlers and finalizers send from within a driver
forks       gives up in a child process what is its parent's
logs        log lines, written by a thread of their own
"""
