// Migration 5: who fills the database, how far each ring has come, and what was lost or refused.

extension Migration {
    static let ingest = Migration(
        number: 5, name: "ingest",
        sql: #"""
            CREATE TABLE nodes (
                node_id smallint PRIMARY KEY CHECK (node_id BETWEEN 0 AND 127),
                spool_uuid uuid NOT NULL,
                machine text NOT NULL DEFAULT '',
                key_fingerprint text NOT NULL DEFAULT '',
                last_id_at timestamptz,
                claimed_at timestamptz NOT NULL DEFAULT now(),
                updated_at timestamptz NOT NULL DEFAULT now()
            );

            CREATE TABLE ingest_cursors (
                ring_id integer NOT NULL CHECK (ring_id BETWEEN 0 AND 4095),
                stream smallint NOT NULL CHECK (stream IN (1, 2)),
                ring_uuid uuid NOT NULL,
                epoch bigint NOT NULL DEFAULT 0,
                next_seq bigint NOT NULL DEFAULT 1,
                watermark timestamptz,
                retired_at timestamptz,
                updated_at timestamptz NOT NULL DEFAULT now(),
                PRIMARY KEY (ring_id, stream, ring_uuid)
            );

            CREATE TABLE ingest_gaps (
                id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
                ring_id integer NOT NULL,
                ring_uuid uuid NOT NULL,
                stream smallint NOT NULL,
                first_seq bigint NOT NULL,
                last_seq bigint NOT NULL,
                from_time timestamptz,
                to_time timestamptz,
                cause text NOT NULL,
                noticed_at timestamptz NOT NULL DEFAULT now(),
                UNIQUE (ring_id, ring_uuid, stream, first_seq, last_seq)
            );

            CREATE TABLE quarantine (
                id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
                ring_id integer NOT NULL,
                ring_uuid uuid NOT NULL,
                stream smallint NOT NULL,
                seq bigint NOT NULL,
                relation text NOT NULL DEFAULT '',
                record bytea NOT NULL,
                sqlstate text NOT NULL DEFAULT '',
                reason text NOT NULL DEFAULT '',
                quarantined_at timestamptz NOT NULL DEFAULT now(),
                UNIQUE (ring_id, ring_uuid, stream, seq)
            );
            """#)
}
