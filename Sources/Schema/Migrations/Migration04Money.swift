// Migration 4: commissions and the append-only ledger.

extension Migration {
    static let money = Migration(
        number: 4, name: "money",
        sql: #"""
            CREATE TABLE commissions (
                id uuid NOT NULL,
                merchant_id uuid NOT NULL,
                sale_id uuid NOT NULL,
                influencer_id uuid NOT NULL,
                amount_minor bigint NOT NULL,
                currency char(3) NOT NULL,
                status text NOT NULL DEFAULT 'pending' CHECK (status IN
                    ('pending', 'approved', 'paid', 'reversed')),
                payable boolean NOT NULL DEFAULT false,
                hold_until timestamptz,
                rule_id uuid,
                reverses uuid,
                terms jsonb,
                reason text,
                created_at timestamptz NOT NULL DEFAULT now(),
                updated_at timestamptz NOT NULL DEFAULT now(),
                PRIMARY KEY (merchant_id, id),
                CHECK (reverses IS NULL OR amount_minor < 0)
            );
            CREATE UNIQUE INDEX idx_commissions_first
                ON commissions (merchant_id, sale_id, influencer_id) WHERE reverses IS NULL;
            CREATE INDEX idx_commissions_influencer ON commissions (influencer_id, created_at DESC);
            CREATE INDEX idx_commissions_hold ON commissions (hold_until)
                WHERE status = 'pending' AND reverses IS NULL;
            CREATE INDEX idx_commissions_updated ON commissions (updated_at);

            CREATE TABLE ledger_entries (
                merchant_id uuid NOT NULL,
                entry_id uuid NOT NULL,
                debit_account text NOT NULL,
                credit_account text NOT NULL,
                amount_minor bigint NOT NULL CHECK (amount_minor > 0),
                currency char(3) NOT NULL,
                kind text NOT NULL CHECK (kind IN
                    ('commission', 'fee', 'release', 'payout', 'reversal', 'adjustment')),
                commission_id uuid,
                reverses uuid,
                posted_at timestamptz NOT NULL DEFAULT now(),
                PRIMARY KEY (merchant_id, entry_id),
                CHECK (debit_account <> credit_account),
                CONSTRAINT ledger_entries_debit_account CHECK (debit_account ~
                    '^(merchant:[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}|influencer:[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}:(held|payable|paid)|platform:fees)$'),
                CONSTRAINT ledger_entries_credit_account CHECK (credit_account ~
                    '^(merchant:[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}|influencer:[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}:(held|payable|paid)|platform:fees)$')
            );
            CREATE INDEX idx_ledger_commission ON ledger_entries (merchant_id, commission_id);
            CREATE INDEX idx_ledger_posted ON ledger_entries (posted_at);

            -- Append-only for everyone, superusers included: what was posted is corrected by a
            -- further row. The ledger is not partitioned, so a trigger costs COPY nothing.
            CREATE FUNCTION refuse_ledger_change() RETURNS trigger
            LANGUAGE plpgsql AS $function$
            BEGIN
                RAISE EXCEPTION 'ledger_entries is append-only' USING ERRCODE = '42501';
            END
            $function$;
            CREATE TRIGGER ledger_entries_append_only
                BEFORE UPDATE OR DELETE OR TRUNCATE ON ledger_entries
                FOR EACH STATEMENT EXECUTE FUNCTION refuse_ledger_change();
            REVOKE UPDATE, DELETE, TRUNCATE ON ledger_entries FROM PUBLIC;

            -- Decimals of a currency's minor unit (ISO 4217): those that are not two.
            CREATE FUNCTION currency_exponent(code text) RETURNS integer
            LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $function$
                SELECT CASE
                    WHEN code IN ('BIF', 'CLP', 'DJF', 'GNF', 'ISK', 'JPY', 'KMF', 'KRW', 'PYG',
                                  'RWF', 'UGX', 'VND', 'VUV', 'XAF', 'XOF', 'XPF') THEN 0
                    WHEN code IN ('BHD', 'IQD', 'JOD', 'KWD', 'LYD', 'OMR', 'TND') THEN 3
                    ELSE 2
                END
            $function$;
            """#)
}
