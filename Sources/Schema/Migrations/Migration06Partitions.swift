// Migration 6: making partitions ahead and keeping the hot leaf quick to search.

extension Migration {
    static let partitions = Migration(
        number: 6, name: "partitions",
        sql: #"""
            -- A leaf is made beside its table and then attached: that waits for no reader or writer of
            -- the table, while CREATE TABLE … PARTITION OF would wait for all of them.
            CREATE FUNCTION make_partition(
                parent regclass, leaf text, lower_bound timestamptz, upper_bound timestamptz
            ) RETURNS boolean
            LANGUAGE plpgsql SET search_path = public, pg_temp AS $function$
            BEGIN
                IF to_regclass(format('public.%I', leaf)) IS NOT NULL THEN
                    RETURN false;
                END IF;
                EXECUTE format(
                    'CREATE TABLE public.%I (LIKE %s INCLUDING DEFAULTS INCLUDING CONSTRAINTS '
                    'INCLUDING STORAGE)', leaf, parent);
                EXECUTE format(
                    'ALTER TABLE %s ATTACH PARTITION public.%I FOR VALUES FROM (%L) TO (%L)',
                    parent, leaf, lower_bound, upper_bound);
                RETURN true;
            END
            $function$;
            REVOKE EXECUTE ON FUNCTION make_partition(regclass, text, timestamptz, timestamptz)
                FROM PUBLIC;

            -- Makes the leaves of the days "from" to "to", both included; how many were missing.
            CREATE FUNCTION make_click_partitions("from" date, "to" date) RETURNS integer
            LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp
            SET timezone = 'UTC' SET lock_timeout = '4s' AS $function$
            DECLARE
                one date := "from";
                made integer := 0;
            BEGIN
                IF "to" < "from" OR "to" - "from" > 800 THEN
                    RAISE EXCEPTION 'make_click_partitions: % to % is no range of at most 800 days',
                        "from", "to" USING ERRCODE = '22023';
                END IF;
                WHILE one <= "to" LOOP
                    IF to_regclass('public.clicks_logs_' || to_char(one, 'YYYYMMDD')) IS NULL THEN
                        PERFORM pg_advisory_xact_lock(x'636c69636b640002'::bigint);
                        IF make_partition('public.clicks_logs', 'clicks_logs_' || to_char(one, 'YYYYMMDD'),
                                          one::timestamptz, (one + 1)::timestamptz) THEN
                            made := made + 1;
                        END IF;
                    END IF;
                    one := one + 1;
                END LOOP;
                RETURN made;
            END
            $function$;

            -- Makes the leaves of the months that "from" and "to" lie in and of those between.
            CREATE FUNCTION make_sale_partitions("from" date, "to" date) RETURNS integer
            LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp
            SET timezone = 'UTC' SET lock_timeout = '4s' AS $function$
            DECLARE
                one date := date_trunc('month', "from"::timestamp)::date;
                next date;
                made integer := 0;
            BEGIN
                IF "to" < "from" OR "to" - "from" > 3700 THEN
                    RAISE EXCEPTION 'make_sale_partitions: % to % is no range of at most ten years',
                        "from", "to" USING ERRCODE = '22023';
                END IF;
                WHILE one <= "to" LOOP
                    next := (one + interval '1 month')::date;
                    IF to_regclass('public.sales_' || to_char(one, 'YYYYMM')) IS NULL THEN
                        PERFORM pg_advisory_xact_lock(x'636c69636b640002'::bigint);
                        IF make_partition('public.sales', 'sales_' || to_char(one, 'YYYYMM'),
                                          one::timestamptz, next::timestamptz) THEN
                            made := made + 1;
                        END IF;
                    END IF;
                    one := next;
                END LOOP;
                RETURN made;
            END
            $function$;

            -- Summarises the new block ranges of a leaf of clicks_logs, and analyses it whenever it has
            -- grown sixteenfold since it was last analysed: the planner scales by the size of the file.
            -- False when someone else holds the leaf: the next call does it.
            CREATE FUNCTION summarise_hot_leaf(leaf regclass) RETURNS boolean
            LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp
            SET lock_timeout = '250ms' AS $function$
            DECLARE
                brin regclass;
            BEGIN
                SELECT i.indexrelid INTO brin
                FROM pg_inherits AS h
                JOIN pg_index AS i ON i.indrelid = h.inhrelid
                JOIN pg_class AS c ON c.oid = i.indexrelid
                JOIN pg_am AS a ON a.oid = c.relam
                WHERE h.inhparent = 'public.clicks_logs'::regclass AND h.inhrelid = leaf
                  AND a.amname = 'brin'
                LIMIT 1;
                IF brin IS NULL THEN
                    RAISE EXCEPTION '% is no leaf of clicks_logs', leaf USING ERRCODE = '22023';
                END IF;
                PERFORM brin_summarize_new_values(brin);
                IF pg_relation_size(leaf) / 8192 >
                    (SELECT 16 * relpages FROM pg_class WHERE oid = leaf) THEN
                    EXECUTE format('ANALYZE %s (clicked_at, click_id)', leaf);
                END IF;
                RETURN true;
            EXCEPTION WHEN lock_not_available THEN
                RETURN false;
            END
            $function$;

            -- Gives a leaf that fills no more its unique index: a doubled click ID cannot stay unseen.
            CREATE FUNCTION seal_click_leaf(leaf regclass) RETURNS boolean
            LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp
            SET lock_timeout = '4s' AS $function$
            DECLARE
                plain name;
            BEGIN
                SELECT c.relname INTO plain
                FROM pg_inherits AS h JOIN pg_class AS c ON c.oid = h.inhrelid
                WHERE h.inhparent = 'public.clicks_logs'::regclass AND h.inhrelid = leaf;
                IF plain IS NULL THEN
                    RAISE EXCEPTION '% is no leaf of clicks_logs', leaf USING ERRCODE = '22023';
                END IF;
                IF to_regclass(format('public.%I', plain || '_click')) IS NOT NULL THEN
                    RETURN false;
                END IF;
                EXECUTE format('CREATE UNIQUE INDEX %I ON %s (click_id, merchant_id)',
                               plain || '_click', leaf);
                RETURN true;
            END
            $function$;
            """#)
}
