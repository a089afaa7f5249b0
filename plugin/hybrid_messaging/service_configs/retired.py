# SPDX-License-Identifier: Apache-2.0
"""Options that oslo.messaging had once, by the release that has them no more.

Read in its source, release by release, former names of options included. What the
release of a service still knows is not looked for here.
"""

from __future__ import annotations

_BY_RELEASE = {
    "DEFAULT": {
        "2.6.0": "matchmaker_heartbeat_freq matchmaker_heartbeat_ttl",
        "3.1.0": "qpid_heartbeat qpid_hostname qpid_hosts qpid_password qpid_port "
        "qpid_protocol qpid_receiver_capacity qpid_sasl_mechanisms qpid_tcp_nodelay "
        "qpid_topology_version qpid_username",
        "5.18.0": "kombu_ssl_ca_certs kombu_ssl_certfile kombu_ssl_keyfile "
        "kombu_ssl_version rabbit_use_ssl",
        "7.0.0": "fake_rabbit",
        "9.0.0": "amqp_durable_queues rabbit_durable_queues rabbit_host rabbit_hosts "
        "rabbit_max_retries rabbit_password rabbit_port rabbit_userid "
        "rabbit_virtual_host rpc_backend rpc_cast_timeout rpc_poll_timeout "
        "rpc_zmq_bind_address rpc_zmq_bind_port_retries rpc_zmq_contexts rpc_zmq_host "
        "rpc_zmq_ipc_dir rpc_zmq_matchmaker rpc_zmq_max_port rpc_zmq_min_port "
        "rpc_zmq_serialization rpc_zmq_topic_backlog zmq_target_expire "
        "zmq_target_update",
        "16.0.0": "amqp_auto_delete kombu_reconnect_delay notification_driver "
        "notification_topics notification_transport_url rabbit_ha_queues "
        "rabbit_login_method rabbit_retry_backoff routing_notifier_config "
        "rpc_conn_pool_size",
    },
    "matchmaker_redis": {
        "9.0.0": "check_timeout host password port sentinel_hosts wait_timeout",
    },
    "oslo_messaging_amqp": {
        "9.0.0": "allow_insecure_clients password username",
    },
    "oslo_messaging_kafka": {
        "9.0.0": "kafka_default_host kafka_default_port",
        "16.0.0": "conn_pool_min_size conn_pool_ttl pool_size",
    },
    "oslo_messaging_notifications": {
        "16.0.0": "notification_driver notification_topics notification_transport_url "
        "routing_notifier_config",
    },
    "oslo_messaging_rabbit": {
        "1.4.0": "allowed_rpc_exception_modules",
        "4.0.0": "send_single_reply",
        "7.0.0": "fake_rabbit",
        "9.0.0": "rabbit_durable_queues rabbit_host rabbit_hosts rabbit_max_retries "
        "rabbit_password rabbit_port rabbit_userid rabbit_virtual_host",
        "16.0.0": "kombu_ssl_ca_certs kombu_ssl_certfile kombu_ssl_keyfile "
        "kombu_ssl_version rabbit_use_ssl",
        "17.0.0": "rabbit_quroum_max_memory_bytes rabbit_quroum_max_memory_length",
        "18.0.0": "heartbeat_in_pthread",
    },
    "oslo_messaging_zmq": {
        "2.6.0": "rpc_zmq_port",
        "4.0.0": "rpc_zmq_all_req_rep zmq_use_broker",
        "4.1.0": "direct_over_proxy",
        "5.3.0": "rpc_zmq_concurrency",
        "9.0.0": "ack_pub_sub backend_port frontend_port host local_publisher "
        "publisher_port rpc_ack_timeout_base rpc_ack_timeout_multiplier "
        "rpc_cast_timeout rpc_message_ttl rpc_poll_timeout rpc_retry_attempts "
        "rpc_thread_pool_size rpc_use_acks rpc_zmq_contexts rpc_zmq_ipc_dir "
        "rpc_zmq_serialization rpc_zmq_topic_backlog subscribe_on url "
        "use_dynamic_connections use_pub_sub zmq_failover_connections zmq_immediate "
        "zmq_linger zmq_tcp_keepalive zmq_tcp_keepalive_cnt zmq_tcp_keepalive_idle "
        "zmq_tcp_keepalive_intvl",
    },
}

#: Release by section and name.
OPTIONS = {
    (section, name): release
    for section, releases in _BY_RELEASE.items()
    for release, names in releases.items()
    for name in names.split()
}

#: Release by the sections of drivers that are gone.
SECTIONS = {"oslo_messaging_qpid": "3.1.0", "oslo_messaging_pika": "6.0.0"}

_URL = "[DEFAULT] transport_url"
_NOTIFICATIONS = "[oslo_messaging_notifications]"
_RABBIT = "[oslo_messaging_rabbit]"

#: What has taken the place of some.
INSTEAD = {
    **dict.fromkeys(
        (
            *("rpc_backend", "rabbit_host", "rabbit_hosts", "rabbit_port"),
            *("rabbit_userid", "rabbit_password", "rabbit_virtual_host"),
        ),
        _URL,
    ),
    "notification_driver": f"{_NOTIFICATIONS} driver",
    "notification_topics": f"{_NOTIFICATIONS} topics",
    "notification_transport_url": f"{_NOTIFICATIONS} transport_url",
    "rabbit_durable_queues": f"{_RABBIT} amqp_durable_queues",
    "rabbit_quroum_max_memory_bytes": f"{_RABBIT} rabbit_quorum_max_memory_bytes",
    "rabbit_quroum_max_memory_length": f"{_RABBIT} rabbit_quorum_max_memory_length",
    "rabbit_use_ssl": f"{_RABBIT} ssl",
    "kombu_ssl_ca_certs": f"{_RABBIT} ssl_ca_file",
    "kombu_ssl_certfile": f"{_RABBIT} ssl_cert_file",
    "kombu_ssl_keyfile": f"{_RABBIT} ssl_key_file",
    "kombu_ssl_version": f"{_RABBIT} ssl_version",
}
