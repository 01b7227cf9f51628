-- The one table. The server applies this file at every start, under an advisory lock. What exists is left alone: ALTER
-- TABLE, CREATE INDEX and CREATE TRIGGER would wait for transactions that use the table, and the inserts of other
-- instances would wait behind them.
--
-- Where the people are spread over partitions (docs/scale.md), each has a schema by the name of partition_3_of_8, in which
-- the same table is made, with a check that keeps out what belongs to another one. One that moves here is made under the
-- name of arriving_3_of_8_ and some digits first.

DO $schema$
DECLARE
    -- Number and count; NULL where all people are in one table.
    partition int[] := regexp_match(current_schema(), '^(?:partition|arriving)_(\d+)_of_(\d+)(?:_[0-9a-f]+)?$')::int[];
BEGIN

-- Beside a table for everybody, no partition's index would be the judge of uniqueness. Nor where they have left.
IF partition IS NULL AND EXISTS (
    SELECT FROM pg_namespace WHERE nspname ~ '^(partition|arriving|left)_\d+_of_\d+'
) THEN
    RAISE EXCEPTION 'the people of this database are in partitions, or have moved'
        USING ERRCODE = 'feature_not_supported';
END IF;

IF to_regclass('pessoas') IS NULL THEN
    CREATE TABLE pessoas (
        -- UUIDv7: new keys go to the right edge of the primary key's tree.
        id         uuid        PRIMARY KEY,
        -- Compared byte for byte; this index is the judge of uniqueness for every instance.
        apelido    varchar(32) COLLATE "C" NOT NULL UNIQUE,
        nome       varchar(100) COLLATE "C" NOT NULL,
        -- The API's dates have four-digit years; Postgres alone would take 'infinity' and 44 BC.
        nascimento date        NOT NULL CHECK (nascimento BETWEEN '0001-01-01' AND '9999-12-31'),
        -- NULL and '{}' are different stacks. A null item or a matrix is no stack at all.
        stack      text[]      COLLATE "C" CHECK (array_position(stack, NULL) IS NULL),
        -- Lower-cased apelido, nome and stack items with 0x00 between them, which no text column could hold.
        -- NULL in a row that was put in by hand: whoever reads the row computes the text.
        search     bytea,
        -- The inserting transaction, whoever inserts: what lets a reader prove that it has seen every committed row.
        tx         xid8        NOT NULL DEFAULT pg_current_xact_id()
    );

    -- Not compressed: an ordinary row fits its page, and compressing the text would cost more than the bytes it saves.
    ALTER TABLE pessoas ALTER COLUMN search SET STORAGE EXTERNAL;

    IF partition IS NOT NULL THEN
        -- FNV-1a of 32 bits, folded to 8: what the server puts into byte 9 of each id that it makes.
        CREATE OR REPLACE FUNCTION home_of_apelido(apelido text) RETURNS int
        LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE AS $home$
        DECLARE
            bytes bytea := convert_to(apelido, 'UTF8');
            hash bigint := 2166136261;
        BEGIN
            FOR at IN 0 .. length(bytes) - 1 LOOP
                hash := ((hash # get_byte(bytes, at)) * 16777619) & 4294967295;
            END LOOP;
            RETURN (hash # (hash >> 8) # (hash >> 16) # (hash >> 24)) & 255;
        END
        $home$;
        -- An apelido has one home, and a home one partition: so the index of one partition judges for all of them.
        EXECUTE format(
            'ALTER TABLE pessoas ADD CONSTRAINT pessoas_are_at_home CHECK ('
            'get_byte(uuid_send(id), 9) = %I.home_of_apelido(apelido) AND get_byte(uuid_send(id), 9) %% %s = %s)',
            current_schema(), partition[2], partition[1]
        );
    END IF;
END IF;

-- How a reader finds the rows that its last snapshot did not show. New entries go to the right edge of the tree.
IF to_regclass('pessoas_tx') IS NULL THEN
    CREATE INDEX pessoas_tx ON pessoas (tx);
END IF;

-- Which rows have no search text; usually none, and then this index is empty.
IF to_regclass('pessoas_unlowered') IS NULL THEN
    CREATE INDEX pessoas_unlowered ON pessoas (id) WHERE search IS NULL;
END IF;

-- Rows of a dump name transactions of another time. Readers would pass them by, or meet them again and again, so each
-- row gets the transaction that really inserts it. The condition is false for the server's own rows, and costs them less
-- than the function would.
IF NOT EXISTS (SELECT FROM pg_trigger WHERE tgrelid = to_regclass('pessoas') AND tgname = 'pessoas_tx_is_now') THEN
    -- For a table of an earlier version this waits for those who write to it, and others wait behind: not for long, since
    -- the start tries again.
    SET LOCAL lock_timeout = '200ms';
    CREATE OR REPLACE FUNCTION pessoas_tx_is_now() RETURNS trigger LANGUAGE plpgsql AS $stamp$
    BEGIN
        NEW.tx := pg_current_xact_id();
        RETURN NEW;
    END
    $stamp$;
    CREATE TRIGGER pessoas_tx_is_now BEFORE INSERT OR UPDATE OF tx ON pessoas
        FOR EACH ROW WHEN (NEW.tx IS DISTINCT FROM pg_current_xact_id()) EXECUTE FUNCTION pessoas_tx_is_now();
    -- Also for rows that a subscription applies.
    ALTER TABLE pessoas ENABLE ALWAYS TRIGGER pessoas_tx_is_now;
END IF;

-- Rows that were there before the trigger, or came while it was disabled, may name a transaction that this cluster has
-- not reached: readers would meet them only then. A few are brought up to date, for readers that run already. Of a whole
-- dump they may be millions, for which no start shall wait: its load reads them all the same, and whoever meets them once
-- more when their time comes knows them.
SET LOCAL enable_seqscan = off;
IF EXISTS (SELECT FROM pessoas WHERE tx >= pg_snapshot_xmax(pg_current_snapshot())) THEN
    UPDATE pessoas SET tx = DEFAULT WHERE id = ANY (ARRAY (
        SELECT id FROM pessoas WHERE tx >= pg_snapshot_xmax(pg_current_snapshot()) LIMIT 10000
    ));
END IF;

END
$schema$;
