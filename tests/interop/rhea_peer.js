// SPDX-License-Identifier: Apache-2.0
// Client and server on rhea, an AMQP 1.0 library of its own, for test_rhea.py:
//
//     node rhea_peer.js serve|call|send OPTIONS-AS-JSON
//
// Each line on standard output is a JSON value that tells what has happened.
'use strict';

const rhea = require('rhea');

const [role, text] = process.argv.slice(2);
const options = JSON.parse(text);

function tell(what) {
    process.stdout.write(JSON.stringify(what) + '\n');
}

function connect(container) {
    return container.connect(Object.assign(
        { host: '127.0.0.1', reconnect: false }, options.connection));
}

// Answers requests with their own body, through the anonymous relay.
function serve(container) {
    const connection = connect(container);
    const relay = connection.open_sender({ target: {} });
    connection.open_receiver({ source: options.address, credit_window: 10 });
    container.on('receiver_open', () => tell('ready'));
    container.on('message', (context) => {
        const request = context.message;
        relay.send({
            to: request.reply_to,
            correlation_id: request.message_id,
            body: request.body,
        });
    });
}

// Calls a server so many times, one call after the other.
function call(container) {
    const connection = connect(container);
    const body = 'x'.repeat(options.size);
    let sender, replies, answered = 0;
    function request() {
        sender.send({ message_id: answered, reply_to: replies.source.address, body });
    }
    replies = connection.open_receiver({ source: { dynamic: true } });
    replies.once('receiver_open', () => {
        sender = connection.open_sender(options.address);
        sender.once('sendable', request);
    });
    replies.on('message', (context) => {
        const reply = context.message;
        if (reply.correlation_id !== answered || reply.body !== body) {
            tell('a wrong reply');
            process.exit(1);
        }
        answered += 1;
        if (answered < options.count) {
            request();
        } else {
            tell(answered);
            connection.close();
        }
    });
}

// Sends messages and tells their outcomes.
function send(container) {
    const connection = connect(container);
    const sender = connection.open_sender(options.address);
    let settled = 0;
    sender.once('sendable', () => {
        for (let number = 0; number < options.count; number += 1) {
            sender.send({ body: String(number) });
        }
        tell('sent');
    });
    for (const outcome of ['accepted', 'released', 'rejected', 'modified']) {
        sender.on(outcome, (context) => {
            const state = context.delivery.remote_state;
            tell([outcome, (state.error && state.error.condition)
                || Boolean(state.delivery_failed)]);
            settled += 1;
            if (settled === options.count) {
                connection.close();
            }
        });
    }
}

const container = rhea.create_container();
container.on('connection_open', (context) => {
    tell({ product: context.connection.properties.product });
});
container.on('connection_close', () => process.exit(0));
for (const trouble of ['disconnected', 'connection_error', 'error']) {
    container.on(trouble, (context) => {
        tell({ trouble, reason: String(context.error || context) });
        process.exit(1);
    });
}
({ serve, call, send })[role](container);
