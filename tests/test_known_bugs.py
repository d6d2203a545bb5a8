"""Bugs that users of other clients (and of libcurl) have met, and the tests of ours that would meet them here.

The table is the documentation; the test below sees to it that the tests exist.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent

# (the bug, where it was met, "file: tests")
TABLE: list[tuple[str, str, str]] = [
    ("many calls at once are slower each than few", "httpx#3215, httpcore#1035", "integration/test_limits.py: test_defaults_queue_instead_of_failing; lifetime/test_forgotten.py: test_a_hundred_clients_at_once_share_one_reactor"),
    ("the pool's time-out counts the queue and is on by default", "httpx#1171, #557", "integration/test_timeouts.py: test_time_in_the_queue_does_not_eat_the_connect_timeout test_without_pool_a_call_waits_its_turn_for_as_long_as_it_takes"),
    ("cancelling under contention leaks places", "httpcore#1093, #658, #830", "integration/test_cancel.py: test_in_the_queue_nothing_is_sent test_a_storm_of_2000_cancels_at_random_moments; integration/test_limits.py: test_failed_and_cancelled_calls_give_their_place_back"),
    ("cancelling twice leaks a stream", "httpx#3782", "integration/test_cancel.py: test_twice_and_after_the_end_is_harmless test_cleanup_that_is_cancelled_again_leaks_nothing; transports/test_cancel.py: test_anyio_scopes"),
    ("cancelled while it connects, resolves, uploads", "httpx#1461, #2139", "integration/test_cancel.py: test_while_it_connects test_while_the_name_is_resolved test_mid_upload_of_bytes"),
    ("connections through proxies are never used again", "httpx#3453", "integration/test_proxies.py: test_connections_to_a_proxy_are_used_again test_https_goes_through_a_tunnel_of_which_the_proxy_sees_only_the_target"),
    ("certificates are loaded by each client", "httpx#978, airflow#57334", "security/test_hostile.py: test_a_client_for_each_call_does_not_load_the_certificates_each_time"),
    ("descriptors run out", "openai-python#933, EuroEval#1012", "lifetime/test_descriptors.py: test_calls_wait_for_descriptors_that_others_will_give_back test_without_any_the_error_names_the_limit_and_how_to_raise_it"),
    ("one client in two loops or threads hangs", "openai-python#769", "lifetime/test_loops.py: test_one_client_serves_two_runs_and_the_first_leaves_no_connection_behind test_one_client_serves_eight_loops_in_eight_threads_at_once"),
    ("'Event loop is closed' from a finalizer", "openai-python#1254, pydantic-ai#135", "lifetime/test_loops.py: test_freeing_everything_needs_no_loop test_a_loop_that_closes_with_calls_in_flight_drops_them; lifetime/test_exit.py: test_the_interpreter_exits_quietly_with"),
    ("keep-alive narrower than the concurrency: reconnect storms", "verifiers#2632", "integration/test_keepalive.py: test_keepalive_is_as_wide_as_the_concurrency_was"),
    ("a slow server counts as a slow connect", "verifiers#2632", "integration/test_timeouts.py: test_a_slow_server_is_not_a_slow_connect"),
    ("a time-out per attempt is no deadline", "openai-python#3828", "traffic/test_deadline.py: test_a_black_hole_with_retries test_back_off_is_capped; integration/test_timeouts.py: test_total_counts_the_queue_and_the_redirects"),
    ("keep-alive comments and role-only deltas put the time-out off", "livekit/agents#6171, baml#1630", "traffic/test_stream_timeouts.py: test_first_token_is_not_put_off_by_roles_and_pings test_idle_is_not_put_off_by_pings_and_keeps_what_came"),
    ("nobody says which deadline fired", "atomic-agent#323", "traffic/test_stream_timeouts.py: test_first_byte test_first_token_before_the_head test_rate"),
    ("a half-open connection hangs for minutes", "netclaw#1253", "integration/test_timeouts.py: test_silence_anywhere_in_the_answer_is_a_read_timeout"),
    ("a POST that may have arrived is sent again and billed twice", "ComfyUI#16204, aiohttp#10790", "integration/test_keepalive.py: test_a_post_that_the_server_received_before_it_closed_is_not_sent_twice test_nothing_is_replayed_once_a_byte_of_the_answer_came; traffic/test_retry.py: test_a_post_that_was_cut_is_not_sent_again"),
    ("a key against duplicates is minted for each attempt anew", "comfy-sdk#79", "traffic/test_retry.py: test_or_a_key_goes_with_it_minted_once"),
    ("a server closes an idle connection as it is used", "aiohttp#850, #6138", "integration/test_keepalive.py: test_a_connection_that_died_while_idle_is_replaced_without_an_error test_uvicorn_closing_idle_connections_never_shows test_a_burst_onto_connections_that_die_loses_nothing_and_sends_nothing_twice"),
    ("Retry-After as a date, in milliseconds", "openai and anthropic SDKs", "llm/test_errors.py: test_the_forms_of_retry_after test_retry_after_as_a_date; traffic/test_retry.py: test_retry_after"),
    ("lines split at U+2028, U+0085", "httpx-sse#34, mcp python-sdk#1356", "unit/test_streaming.py: test_lines_split_only_at_line_ends_and_characters_may_be_cut; security/test_hostile.py: test_events_of_many_kilobytes_arrive_whole"),
    ("UTF-8 or CRLF cut between two pieces; byte order mark; bare CR", "Intendant#411, praxis#739", "unit/test_text.py: test_text_is_decoded_in_any_cut test_lines_end_with_lf_crlf_or_cr_in_any_cut test_a_byte_order_mark_is_dropped_and_bad_bytes_are_replaced; llm/test_stream.py: test_byte_by_byte_and_in_one_piece; integration/test_streaming.py: test_aiter_text_and_lines_survive_any_cut"),
    ("events without a ceiling", "httpx2", "llm/test_events.py: test_ceilings; security/test_bounds.py: test_an_event_that_never_ends_is_an_error"),
    ("an error as JSON where a stream was asked for; an error in the stream", "openai SDK", "llm/test_stream.py: test_a_json_error_instead_of_a_stream test_an_error_inside test_an_error_named_by_its_event"),
    ("64 KB of buffer: large events are slow", "vllm#39963", "security/test_hostile.py: test_events_of_many_kilobytes_arrive_whole; integration/test_backpressure.py: test_a_gigabyte_comes_down_in_bounded_memory"),
    ("logprobs are decoded at 200 ms a reply, wanted or not", "prime-rl#1189", "llm/test_odd_servers.py: test_logprobs_are_not_looked_at_before_they_are_asked_for"),
    ("an error of the provider behind a gateway looks like a reply", "OpenRouter", "llm/test_odd_servers.py: test_an_error_within_a_choice test_an_error_in_place_of_events"),
    ("an early end of the loop leaks the response", "openai-python#969", "integration/test_streaming.py: test_leaving_the_block_early_closes_the_connection; llm/test_stream.py: test_leaving_early_cancels_at_the_server; lifetime/test_forgotten.py: test_a_forgotten_stream_closes_its_connection"),
    ("the usage of a cancelled stream is lost", "litellm#30630", "llm/test_choices.py: test_who_leaves_early_keeps_what_had_arrived_unread"),
    ("quick aborts over HTTP/2 take the siblings with them", "nodejs/node#56306", "integration/test_http2.py: test_a_cancelled_stream_leaves_the_others_and_the_connection_alone; integration/test_cancel.py: test_a_storm_on_tls_and_http2"),
    ("GOAWAY in the middle of a burst", "curl ba1e559", "security/test_hostile.py: test_goaway_in_the_middle_of_a_burst_loses_no_call; integration/test_http2_lost.py: test_what_the_server_did_not_take_is_sent_again test_what_the_server_may_have_taken_is_sent_again_only_if_idempotent"),
    ("a stream that is not read holds up the others", "curl 1da640a", "integration/test_http2.py: test_a_paused_stream_does_not_block_its_siblings; integration/test_backpressure.py: test_a_paused_stream_does_not_stop_the_others"),
    ("SSL_CERT_FILE; an ssl.SSLContext that is ignored without a word", "litellm#40113", "integration/test_tls.py: test_ssl_cert_file_of_the_environment_is_trusted test_a_python_ssl_context_is_refused_with_advice; transports/test_context.py: test_a_file_added_to_the_default"),
    ("the environment's proxy for a local server", "verifiers#2632", "integration/test_proxies.py: test_trust_env_false_ignores_the_environment test_no_proxy_exempts_hosts"),
    ("a look-up for each call of a burst; a hang when one is cancelled", "curl_cffi#278, curl#4852", "security/test_hostile.py: test_a_burst_to_one_name_looks_it_up_once; integration/test_cancel.py: test_while_the_name_is_resolved"),
    ("hangs for hours in spite of a time-out", "curl_cffi#578", "integration/test_timeouts.py: test_total_ends_a_call_that_moves_all_the_time test_a_proxy_that_hangs_at_connect_is_a_connect_timeout; integration/test_http2.py: test_no_lane_ever_needed_the_rescue"),
    ("time-outs come late when there are thousands", "curl_cffi#524", "integration/test_timeouts.py: test_a_thousand_deadlines_pass_on_time"),
    ("after a spike everything times out until the restart", "curl_cffi#641", "security/test_hostile.py: test_after_a_spike_of_timeouts_the_client_is_as_good_as_new"),
    ("streams do not have time-outs", "curl_cffi#215", "integration/test_timeouts.py: test_the_read_timeout_holds_in_a_stream test_total_ends_a_stream"),
    ("a crash when the multi handle is collected with transfers in it", "pycurl#1058", "lifetime/test_forgotten.py: test_a_forgotten_client_in_a_cycle_is_collected test_a_call_in_flight_ends_well_although_its_client_is_forgotten; lifetime/test_loops.py: test_a_loop_that_closes_with_tasks_inside_streams_closes_them"),
    ("libcurl after a fork: answers mixed up", "php#10633, curl#22630", "lifetime/test_fork.py: test_a_fork_inside_a_running_loop_leaves_the_parents_calls_alone test_a_grandchild_works_too_and_tls_connections_survive_their_copies"),
    ("connections are shared between client certificates, proxy credentials", "CVE-2026-8932 and others", "security/test_identity.py: test_a_client_certificate_serves_its_own_client_only test_proxy_credentials_have_connections_of_their_own"),
    ("credentials in what is reported", "CVE-2026-94266", "security/test_secrets.py: test_errors_of_every_phase test_the_url_of_an_answer_has_no_credentials_of_the_redirect"),
    ("HTTP_PROXY under CGI", "CVE-2016-5385", "security/test_environment.py: test_under_cgi_the_variable_that_a_visitor_can_set_is_ignored"),
    ("nobody says what blocks the loop", "ogx#1489, prime-rl#2608", "observe/test_loop.py: test_code_that_holds_the_loop_is_named_with_file_and_line"),
    ("an upload is read ahead of the server", "aiohttp, httpx", "integration/test_backpressure.py: test_a_generator_is_not_drained_ahead_of_the_server"),
    ("an answer that comes before the upload has ended", "curl#11426", "integration/test_responses.py: test_an_early_answer_is_given_although_the_upload_did_not_end test_an_early_200_lets_the_upload_end"),
]  # fmt: skip


def _tests() -> list[tuple[str, str]]:
    """(file, test) of the whole table."""
    found = []
    for _, _, where in TABLE:
        for part in where.split("; "):
            file, _, names = part.partition(": ")
            found += [(file, name) for name in names.split()]
    return found


@pytest.mark.parametrize("file", sorted({file for file, _ in _tests()}))
def test_the_tests_of_the_table_exist(file: str) -> None:
    text = (HERE / file).read_text()
    assert not [
        name
        for wanted, name in _tests()
        if wanted == file and not re.search(rf"def {name}\(", text)
    ]
