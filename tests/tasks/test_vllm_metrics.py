"""What a vLLM server says of its load, in a few words behind the bar."""

from tasks.vllm_metrics import ServerLoad, note_of, parse_load

PAGE = """# HELP vllm:num_requests_running Number of requests in model execution batches.
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{engine="0",model_name="m"} 12.0
vllm:num_requests_running{engine="1",model_name="m"} 3.0
# TYPE vllm:num_requests_waiting gauge
vllm:num_requests_waiting{engine="0",model_name="m"} 40.0
# TYPE vllm:prompt_tokens counter
vllm:prompt_tokens_total{engine="0",model_name="m"} 1000.0
# TYPE vllm:generation_tokens counter
vllm:generation_tokens_total{engine="0",model_name="m"} 250.0
"""


def test_the_engines_of_a_server_are_summed() -> None:
    assert parse_load(PAGE) == ServerLoad(running=15, waiting=40, tokens=1250)


def test_a_page_of_another_server_tells_nothing() -> None:
    page = "# TYPE process_cpu_seconds counter\nprocess_cpu_seconds_total 12.5\n"
    assert parse_load(page) is None
    assert parse_load("") is None


def test_the_rate_is_of_the_time_between_and_never_negative() -> None:
    earlier = ServerLoad(0, 0, 1000)
    assert note_of(ServerLoad(2, 5, 5000), earlier, 2.0) == "2 running, 5 waiting, 2,000 tokens/s"
    assert note_of(ServerLoad(1, 0, 10), earlier, 2.0) == "1 running, 0 waiting, 0 tokens/s"
