package rinha;

import static io.gatling.javaapi.core.CoreDsl.bodyString;
import static io.gatling.javaapi.core.CoreDsl.constantUsersPerSec;
import static io.gatling.javaapi.core.CoreDsl.exec;
import static io.gatling.javaapi.core.CoreDsl.rampUsersPerSec;
import static io.gatling.javaapi.core.CoreDsl.responseTimeInMillis;
import static io.gatling.javaapi.core.CoreDsl.scenario;
import static io.gatling.javaapi.core.CoreDsl.StringBody;
import static io.gatling.javaapi.http.HttpDsl.header;
import static io.gatling.javaapi.http.HttpDsl.http;
import static io.gatling.javaapi.http.HttpDsl.status;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import io.gatling.javaapi.core.ChainBuilder;
import io.gatling.javaapi.core.OpenInjectionStep;
import io.gatling.javaapi.core.PopulationBuilder;
import io.gatling.javaapi.core.ScenarioBuilder;
import io.gatling.javaapi.core.Session;
import io.gatling.javaapi.core.Simulation;
import io.gatling.javaapi.http.HttpRequestActionBuilder;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.file.Path;
import java.time.Duration;
import java.util.List;
import java.util.Objects;

/**
 * The contest's load: three scenarios at once, an open model, one connection per user. Beyond what the contest does, it
 * compares the body of the GET with what was posted, and records each request and each acknowledged pessoa for the
 * verdict.
 *
 * <p>System properties: {@code base} (URL), {@code feeders} and {@code records} (directories), {@code scale} (of all
 * durations), {@code load} (the multiplier k of all rates), {@code compare} (false: any body will do).
 */
public class Contest extends Simulation {
  private static final String BASE = System.getProperty("base", "http://localhost:9999");
  private static final double SCALE = Double.parseDouble(System.getProperty("scale", "1"));
  private static final double LOAD = Double.parseDouble(System.getProperty("load", "1"));
  private static final boolean COMPARE = Boolean.parseBoolean(System.getProperty("compare", "true"));
  private static final Path FEEDERS = Path.of(System.getProperty("feeders", "feeders"));
  private static final Path RECORDS = Path.of(System.getProperty("records", "records"));

  private static final ObjectMapper JSON = new ObjectMapper();
  private static final List<String> MEMBERS = List.of("apelido", "nome", "nascimento", "stack");

  private final List<String> payloads = Feeders.lines(FEEDERS.resolve("pessoas-payloads.tsv"));
  private final List<String> terms = Feeders.lines(FEEDERS.resolve("termos-busca.tsv"));
  private final Recorder recorder = new Recorder(RECORDS);

  private final ChainBuilder create =
      recorded(
              "create",
              http("create")
                  .post("/pessoas")
                  .body(StringBody("#{payload}"))
                  .header("Content-Type", "application/json")
                  .check(status().in(201, 422, 400))
                  .checkIf((response, session) -> response.status().code() == 201)
                  .then(header("Location").saveAs("location")))
          .exec(this::acknowledge);

  private final ChainBuilder get =
      recorded(
          "get",
          http("get")
              .get("#{location}")
              .check(status().is(200))
              .check(
                  COMPARE
                      ? bodyString().validate("the posted pessoa", Contest::thePostedPessoa)
                      : bodyString().exists()));

  private final ScenarioBuilder creates =
      scenario("create, then get")
          .feed(Feeders.circular("payload", payloads))
          .exec(create)
          .pause(Duration.ofMillis(1), Duration.ofMillis(30))
          .doIf(session -> session.contains("location"))
          .then(get);

  private final ScenarioBuilder searches =
      scenario("valid search")
          .feed(Feeders.circular("term", terms))
          .exec(recorded("search", http("search").get("/pessoas?t=#{term}").check(status().is(200))));

  private final ScenarioBuilder invalidSearches =
      scenario("invalid search")
          .exec(recorded("invalid search", http("invalid search").get("/pessoas").check(status().is(400))));

  {
    PopulationBuilder[] populations = {
      creates.injectOpen(
          constant(2, 10), constantUsersPerSec(5 * LOAD).during(seconds(15)).randomized(), ramp(600)),
      searches.injectOpen(constant(2, 25), ramp(100)),
      invalidSearches.injectOpen(constant(2, 25), ramp(40)),
    };
    // Without this Gatling would warm itself up by a request to its maker's site.
    setUp(populations)
        .protocols(http.baseUrl(BASE).userAgentHeader("rinha stress-test").warmUp(BASE + "/contagem-pessoas"));
  }

  /** Asks for the count: the last answer has arrived, so that no create may be committed any more. */
  @Override
  public void after() {
    recorder.count(BASE + "/contagem-pessoas");
    recorder.close();
  }

  private static OpenInjectionStep constant(double users, double seconds) {
    return constantUsersPerSec(users * LOAD).during(seconds(seconds));
  }

  private static OpenInjectionStep ramp(double users) {
    return rampUsersPerSec(6 * LOAD).to(users * LOAD).during(seconds(180));
  }

  private static Duration seconds(double seconds) {
    return Duration.ofMillis(Math.round(seconds * SCALE * 1000));
  }

  /** Sends the request, saves its answer's status and time, and writes a line of the records whatever became of it. */
  private ChainBuilder recorded(String name, HttpRequestActionBuilder request) {
    return exec(session -> session.remove("status").set("began", System.currentTimeMillis()))
        .exec(request.check(status().saveAs("status"), responseTimeInMillis().saveAs("millis")))
        .exec(
            session -> {
              recorder.request(name, session);
              return session;
            });
  }

  private Session acknowledge(Session session) {
    if (session.contains("location") && !session.isFailed()) {
      recorder.acknowledged(id(session), session.getInt("index"));
    }
    return session;
  }

  private static String id(Session session) {
    String location = Objects.requireNonNull(session.getString("location"));
    return location.substring(location.lastIndexOf('/') + 1);
  }

  private static String thePostedPessoa(String body, Session session) {
    JsonNode answered = json(body);
    JsonNode posted = json(Objects.requireNonNull(session.getString("payload")));
    String id = answered.path("id").asText();
    if (!id.equals(id(session))) {
      throw new IllegalArgumentException("another id: " + id);
    }
    for (String member : MEMBERS) {
      // Absent and null are the same to whoever reads a pessoa.
      if (!orNull(answered.get(member)).equals(orNull(posted.get(member)))) {
        throw new IllegalArgumentException("another " + member + ": " + answered.get(member));
      }
    }
    return body;
  }

  private static JsonNode json(String text) {
    try {
      return JSON.readTree(text);
    } catch (IOException error) {
      throw new UncheckedIOException(error);
    }
  }

  private static JsonNode orNull(JsonNode node) {
    return node == null ? JSON.nullNode() : node;
  }
}
