-- wrk script: creates with unique apelidos. Each thread counts by itself; RUN makes runs differ.
local thread_count = 0

function setup(thread)
  thread:set("number", thread_count)
  thread_count = thread_count + 1
end

local count = 0
local run = os.getenv("RUN") or tostring(os.time())
local body = '{"apelido":"%s","nome":"Ana Beatriz Carvalho de Albuquerque e Silva Moreira","nascimento":"2000-10-01",'
  .. '"stack":["C#","Node","Oracle","Postgres","Rust","Python","Java","Kotlin","Elixir","Ruby","Go","PHP","Scala"]}'

function init(args)
  wrk.method = "POST"
  wrk.headers["Content-Type"] = "application/json"
end

function request()
  count = count + 1
  return wrk.format(nil, "/pessoas", nil, body:format(string.format("%s-%d-%d", run, number, count)))
end

function done(summary, latency, requests)
  print(string.format("errors: status %d, timeout %d, read %d, write %d", summary.errors.status,
    summary.errors.timeout, summary.errors.read, summary.errors.write))
  print(string.format("latency ms: p50 %.2f p99 %.2f p99.9 %.2f max %.2f", latency:percentile(50) / 1000,
    latency:percentile(99) / 1000, latency:percentile(99.9) / 1000, latency.max / 1000))
end
